"""Who is a voter: whoever holds a token, for as long as it is renewed, and from the opening on."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest

from dianzan.domain.voters import VoterClass
from tests.conftest import NewCampaign
from tests.spec.test_errors import assert_problem
from tests.support.client import CampaignClient, VoterClient
from tests.support.system import System
from tests.support.wait import until

DAY_S = 86_400


async def renew(campaign: CampaignClient, token: str) -> httpx.Response:
    return await campaign.http.post(f"{campaign.vote_url}/voters", json={"token": token})


async def test_nobody_becomes_a_voter_before_the_campaign_opens(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(opens=datetime.now(UTC) + timedelta(hours=1))
    early = await campaign.known_voter("early")

    assert_problem(await campaign.http.post(f"{campaign.vote_url}/voters", json={}), 409, "not_open")
    assert_problem(await renew(campaign, early.token), 409, "not_open")


@pytest.mark.parametrize(("window", "past_s"), [("day", DAY_S), ("campaign", 25 * 3600)])
async def test_a_token_is_taken_for_a_few_days_past_its_window(
    new_campaign: NewCampaign, window: str, past_s: int
) -> None:
    campaign = await new_campaign(window=window)  # it opened an hour ago and lasts a day
    made_at = time.time()

    answer = (await campaign.http.post(f"{campaign.vote_url}/voters", json={})).json()

    life_s = datetime.fromisoformat(answer["expires_at"]).timestamp() - made_at
    assert life_s == pytest.approx(past_s + 3 * DAY_S if window == "day" else past_s + 4 * DAY_S, abs=5)


async def test_an_expired_token_is_renewed_for_the_same_voter(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(publishers=["bjnews"])
    now_s = int(time.time())
    young = await campaign.known_voter("a person", made_s=now_s)
    receipt = (await young.like("c01"))["results"][0]["receipt"]
    old = await campaign.known_voter("a person", made_s=now_s - 5 * DAY_S)
    assert_problem(await old.ask("c01"), 401, "token_expired")

    answer = (await renew(campaign, old.token)).json()

    again = (await campaign.with_token(answer["token"]).like("c01"))["results"][0]
    assert again == {"candidate": "c01", "status": "already_liked", "receipt": receipt}


async def test_a_renewed_token_keeps_class_and_publisher(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(publishers=["bjnews"], voter_classes=["device", "verified"])
    reader = await campaign.voter("bjnews")
    verified = await campaign.known_voter("a person", VoterClass.verified)

    answers = [(await renew(campaign, voter.token)).json() for voter in (reader, verified)]

    assert [(answer["class"], answer["publisher"]) for answer in answers] == [("device", "bjnews"), ("verified", None)]


async def test_how_many_tokens_an_operator_made_is_kept(system: System, campaign: CampaignClient) -> None:
    def shown() -> int:
        minted: int = json.loads(system.cli("campaign", "show", campaign.id, "--json").stdout)["minted"]
        return minted

    assert shown() == 0

    printed = system.cli("token", campaign.id, "--count", "5", "--subject", "a person").stdout

    assert len(printed.split()) == 6
    assert shown() == 6
    assert "\ntokens made by operators: 6\n" in system.cli("campaign", "show", campaign.id).stdout


# ---- tokens that are no longer taken --------------------------------------------------------------------------------


async def refused_soon(voter: VoterClient) -> None:
    """Wait until a voter's likes are refused, within the second in which the vote APIs learn of it."""

    async def refused() -> bool:
        answer = await voter.ask("c01")
        return answer.status_code == 401 and bool(answer.json()["code"] == "token_revoked")

    await until(refused, within_s=5, what="the token is refused")


async def test_tokens_of_a_publisher_are_revoked_at_once_and_their_likes_stay(
    system: System, new_campaign: NewCampaign
) -> None:
    campaign = await new_campaign(publishers=["bjnews", "seller"])
    honest, bought = await campaign.voter("bjnews"), await campaign.voter("seller")
    await bought.like("c01")

    done = system.cli("campaign", "revoke", campaign.id, "--publisher", "Seller", "--reason", "sold likes", "--yes")

    assert (done.returncode, done.stdout) == (
        0,
        f"Revocation 1 of {campaign.id} is in force: tokens by publisher Seller. Undo: --undo 1\n",
    ), done.stderr
    await refused_soon(bought)
    assert await honest.statuses("c01") == ["counted"]
    assert_problem(await renew(campaign, bought.token), 401, "token_revoked")
    assert (await campaign.voter("bjnews")).token
    another = await campaign.http.post(f"{campaign.vote_url}/voters", json={"publisher": "seller"})
    assert_problem(another, 403, "voter_refused")

    async def both() -> bool:
        return await campaign.likes_of("c01") == 2

    await until(both, what="the like that was counted stays")


async def test_tokens_made_in_a_span_of_time_are_revoked(system: System, campaign: CampaignClient) -> None:
    now_s = int(time.time()) // 60 * 60
    hoarded = await campaign.known_voter("hoarded", made_s=now_s - 3600)
    early = await campaign.known_voter("early", made_s=now_s - 7200 - 1)
    fresh = await campaign.voter()
    zone = ZoneInfo("Asia/Shanghai")
    since, until_ = (f"{datetime.fromtimestamp(now_s - s, zone):%Y-%m-%d %H:%M}" for s in (7200, 1800))

    done = system.cli(
        "campaign", "revoke", campaign.id, "--made-from", since, "--made-until", until_, "--reason", "stock", "--yes"
    )

    assert done.returncode == 0, done.stderr
    await refused_soon(hoarded)
    assert [await voter.statuses("c02") for voter in (early, fresh)] == [["counted"], ["counted"]]
    [kept] = json.loads(system.cli("campaign", "revocations", campaign.id, "--json").stdout)["revocations"]
    assert (kept["number"], kept["reason"], kept["voter_class"], kept["undone_at"]) == (1, "stock", None, None)
    assert datetime.fromisoformat(kept["made_from"]).timestamp() == now_s - 7200


async def test_a_revocation_that_is_undone_is_kept_and_its_tokens_are_taken_again(
    system: System, campaign: CampaignClient
) -> None:
    voter = await campaign.voter()
    system.cli("campaign", "revoke", campaign.id, "--class", "device", "--reason", "a slip", "--yes")
    await refused_soon(voter)

    assert system.cli("campaign", "revoke", campaign.id, "--undo", "1").returncode == 0

    async def taken() -> bool:
        return (await voter.ask("c01")).status_code == 200

    await until(taken, within_s=5, what="the token is taken again")
    shown = system.cli("campaign", "revocations", campaign.id).stdout
    assert re.fullmatch(r"1  \S+ \S+  of class device, undone \S+ \S+: a slip\n", shown), shown
    again = system.cli("campaign", "revoke", campaign.id, "--undo", "1", check=False)
    assert (again.returncode, again.stderr) == (1, f"Campaign {campaign.id} has no revocation 1 that is in force.\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--reason", "x", "--yes"], "Say which tokens: --class, --publisher, --made-from or --made-until."),
        (["--class", "device", "--yes"], "Say why, since it is kept: --reason TEXT."),
        (["--class", "device", "--reason", "x"], "since nobody could be asked: run this again with --yes"),
        (["--publisher", "nobody", "--reason", "x", "--yes"], "has no publisher 'nobody'; it has none."),
    ],
)
async def test_a_revocation_that_is_not_whole_is_refused(
    system: System, campaign: CampaignClient, options: list[str], said: str
) -> None:
    done = system.cli("campaign", "revoke", campaign.id, *options, check=False)

    assert done.returncode == 1
    assert said in done.stderr
    assert json.loads(system.cli("campaign", "revocations", campaign.id, "--json").stdout)["revocations"] == []


async def test_a_token_of_another_campaign_or_of_nobody_is_not_renewed(new_campaign: NewCampaign) -> None:
    one, two = await new_campaign(), await new_campaign()
    stranger = await one.voter()

    for token in (stranger.token, "A" * 48, ""):
        assert_problem(await renew(two, token), 401, "token_invalid")
