"""What is promised to the public: a like counts, once, visibly, and nothing else is ever said of it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dianzan.domain.voters import VoterClass
from tests.conftest import NewCampaign
from tests.support.client import CampaignClient
from tests.support.database import ledger_rows, until_in_ledger
from tests.support.service import running
from tests.support.wait import until


async def test_a_like_is_counted_and_seen_in_the_results_within_two_seconds(campaign: CampaignClient) -> None:
    voter = await campaign.voter()

    answer = await voter.like("c01")

    assert answer["results"][0]["status"] == "counted"
    assert answer["remaining"] == 2

    async def seen() -> bool:
        return await campaign.likes_of("c01") == 1

    await until(seen, within_s=2)


async def test_the_same_like_again_changes_nothing_and_has_the_same_receipt(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    first = (await voter.like("c01"))["results"][0]

    again = (await voter.like("c01"))["results"][0]

    assert again == {"candidate": "c01", "status": "already_liked", "receipt": first["receipt"]}


async def test_a_thousand_parallel_likes_of_one_voter_count_once(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()

    answers = await asyncio.gather(*(voter.statuses("c01") for _ in range(1_000)))

    assert sorted(answers) == [["already_liked"]] * 999 + [["counted"]]


async def test_a_voter_has_so_many_likes_a_window_and_no_more(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(likes_per_window=2)
    voter = await campaign.voter()

    assert await voter.statuses("c01", "c02") == ["counted", "counted"]
    assert await voter.statuses("c03") == ["over_quota"]
    assert await voter.statuses("c01") == ["already_liked"]


async def test_parallel_requests_share_one_quota(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(roster=60)
    voter = await campaign.voter()

    answers = await asyncio.gather(*(voter.statuses(f"c{i:02}") for i in range(1, 61)))

    assert sorted(answers) == [["counted"]] * 3 + [["over_quota"]] * 57


async def test_remaining_falls_with_each_counted_like_only(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(likes_per_window=3)
    voter = await campaign.voter()

    requests = ("c01", "c01", "nobody", "c02", "c03", "c04")

    assert [(await voter.like(code))["remaining"] for code in requests] == [2, 2, 2, 1, 0, 0]


async def test_one_request_may_name_many_candidates_and_each_has_its_own_status(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(roster=9, likes_per_window=5)
    voter = await campaign.voter()
    await voter.like("c01", "c02", "c03")

    answer = await voter.like("c04", "c01", "nobody", "c05", "c06")

    said = [(each["candidate"], each["status"], "receipt" in each) for each in answer["results"]]
    assert said == [
        ("c04", "counted", True),
        ("c01", "already_liked", True),
        ("nobody", "unknown_candidate", False),
        ("c05", "counted", True),
        ("c06", "over_quota", False),
    ]


async def test_a_candidate_named_twice_in_one_request_counts_once(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()

    answer = await voter.like("c01", "c01", "c01")

    assert [result["status"] for result in answer["results"]] == ["counted"]
    assert answer["remaining"] == 2


async def test_a_code_may_be_typed_in_any_case_and_is_the_same_candidate(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()

    first, again = await voter.like("C02", "c02", "Nobody"), await voter.like("C02")

    assert [(each["candidate"], each["status"]) for each in first["results"]] == [
        ("c02", "counted"),
        ("Nobody", "unknown_candidate"),
    ]
    assert first["remaining"] == 2
    assert again["results"] == [{**first["results"][0], "status": "already_liked"}]


async def test_a_publisher_may_be_typed_in_any_case(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(publishers=["bjnews", "btv"])
    voter = await campaign.voter("BTV")

    stored_campaign = await campaign.stores.lifecycle.stored(campaign.id)
    document = await campaign.stores.ledger.campaigns.document(stored_campaign)

    assert document.key.read_token(voter.token, time.time()).publisher == 2


async def test_a_request_names_at_most_the_quota(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()

    assert (await voter.ask("c01", "c02", "c03", "c04")).status_code == 400
    assert (await voter.ask()).status_code == 400
    assert (await voter.mine())["likes"] == []


async def test_unknown_candidates_cost_nothing(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()

    answer = await voter.like("nobody", "C99", "")

    assert [result["status"] for result in answer["results"]] == ["unknown_candidate"] * 3
    assert answer["remaining"] == 3


async def test_a_like_may_be_sent_as_plain_text_with_the_token_in_the_body(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    body = json.dumps({"candidates": ["c01"], "token": voter.token})

    answer = await open_campaign.http.post(voter.likes_url, content=body, headers={"content-type": "text/plain"})

    assert answer.json()["results"][0]["status"] == "counted"
    assert await voter.statuses("c01") == ["already_liked"]


async def test_a_voter_sees_what_it_has_liked_with_the_same_receipts(open_campaign: CampaignClient) -> None:
    voter, other = await open_campaign.voter(), await open_campaign.voter()
    answer = await voter.like("c02", "c01")
    given = [{"candidate": each["candidate"], "receipt": each["receipt"]} for each in answer["results"]]

    mine = await voter.mine()

    assert mine == {"likes": given, "remaining": 1, "resets_at": answer["resets_at"]}
    assert (await other.mine())["likes"] == []


async def test_a_receipt_is_16_characters_and_every_like_has_its_own(open_campaign: CampaignClient) -> None:
    voters = [await open_campaign.voter() for _ in range(3)]

    answers = [await voter.like("c01", "c02") for voter in voters]

    receipts = [result["receipt"] for answer in answers for result in answer["results"]]
    assert len(set(receipts)) == 6
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{16}", receipt) for receipt in receipts)


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "America/New_York", "Pacific/Kiritimati"])
async def test_likes_of_a_day_come_back_at_the_next_midnight_of_the_campaigns_zone(
    new_campaign: NewCampaign, zone: str
) -> None:
    campaign = await new_campaign(timezone=zone, closes=datetime.now(UTC) + timedelta(days=4))
    voter = await campaign.voter()
    before = datetime.now(ZoneInfo(zone)).date()

    said = (await voter.like("c01"))["resets_at"]

    resets_at = datetime.fromisoformat(said)
    assert resets_at.utcoffset() == resets_at.astimezone(ZoneInfo(zone)).utcoffset()
    assert (resets_at.hour, resets_at.minute, resets_at.second) == (0, 0, 0)
    assert resets_at.date() in (before + timedelta(days=1), before + timedelta(days=2))
    assert resets_at > datetime.now(UTC)


@pytest.mark.parametrize("rules", [{"window": "campaign"}, {"closes": datetime.now(UTC) + timedelta(minutes=5)}])
async def test_the_last_window_promises_no_other(new_campaign: NewCampaign, rules: dict[str, Any]) -> None:
    """A campaign that is one window, and the day on which a campaign ends."""
    campaign = await new_campaign(**rules)
    voter = await campaign.voter()

    answer = await voter.like("c01")

    assert answer["resets_at"] is None
    assert (await voter.mine())["resets_at"] is None


async def test_campaigns_at_the_same_time_do_not_touch_each_other(new_campaign: NewCampaign) -> None:
    one, two = await new_campaign(), await new_campaign()
    voters = [await each.known_voter("the same person") for each in (one, two)]
    await voters[0].like("c01", "c02", "c03")

    answer = await voters[1].like("c01")

    assert answer["results"][0]["status"] == "counted"
    assert answer["remaining"] == 2
    assert answer["results"][0]["receipt"] not in json.dumps(await voters[0].mine())
    assert len(await until_in_ledger(one, 3)) == 3
    assert len(await until_in_ledger(two, 1)) == 1


async def test_a_campaign_may_have_more_candidates_than_a_byte_can_number(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(roster=600, likes_per_window=8)
    voter = await campaign.voter()
    # Numbers 1 and 256 side by side hold the bytes of 257, which has not been liked.
    await voter.like("c01", "c256")

    assert await voter.statuses("c257", "c600", "c255", "c01", "c256") == ["counted"] * 3 + ["already_liked"] * 2

    rows = await until_in_ledger(campaign, 5)
    assert sorted(row["candidate"] for row in rows) == [1, 255, 256, 257, 600]
    assert [like["candidate"] for like in (await voter.mine())["likes"]] == ["c01", "c256", "c257", "c600", "c255"]


async def test_the_ledger_keeps_publisher_class_and_network_but_no_address(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(publishers=["bjnews", "btv"], voter_classes=["device", "verified"])
    verified = await campaign.known_voter("张三", VoterClass.verified)
    addresses = {"c01": "203.0.113.7", "c02": "203.0.113.99", "c03": "198.51.100.7", "c04": "2001:db8:77::1"}

    for code, address in addresses.items():
        voter = await campaign.voter("btv") if code != "c03" else verified
        headers = {"authorization": f"Bearer {voter.token}", "x-forwarded-for": address}
        answer = await campaign.http.post(voter.likes_url, json={"candidates": [code]}, headers=headers)
        assert answer.status_code == 200

    by_candidate = {row["candidate"]: row for row in await until_in_ledger(campaign, 4)}
    assert [(by_candidate[i]["publisher"], by_candidate[i]["voter_class"]) for i in (1, 2, 3, 4)] == [
        (2, 1),
        (2, 1),
        (0, 2),
        (2, 1),
    ]
    networks = [by_candidate[i]["network"] for i in (1, 2, 3, 4)]
    assert networks[0] == networks[1], "one /24 is one network"
    assert len(set(networks)) == 3
    kept = repr([dict(row) for row in by_candidate.values()])
    assert not [text for text in (*addresses.values(), "203.0.113", "198.51.100", "2001:db8") if text in kept]
    assert "张三".encode().hex() not in kept


async def test_a_second_worker_killed_in_the_middle_changes_no_count(new_campaign: NewCampaign, tmp_path: Path) -> None:
    campaign = await new_campaign(shards=8)
    voters = [await campaign.known_voter(f"voter {i}") for i in range(300)]

    async with running("tally_worker", campaign.system.stores, tmp_path) as worker:
        first = asyncio.gather(*(voter.statuses("c01", "c02") for voter in voters))
        await until(lambda: ledger_rows(campaign), what="the first likes are in the ledger")
        worker.kill()
        answers = await first
    answers += await asyncio.gather(*(voter.statuses("c02", "c03") for voter in voters))

    assert sum(statuses.count("counted") for statuses in answers) == 900
    await until_in_ledger(campaign, 900)
    campaign.system.cli("recount", campaign.id)


async def test_a_crowd_is_served_while_the_rules_change(campaign: CampaignClient) -> None:
    lifecycle = campaign.stores.lifecycle
    voters = [await campaign.voter() for _ in range(40)]
    changed = (await lifecycle.stored(campaign.id)).rules.model_copy(update={"title": "改名"})
    changing = asyncio.create_task(lifecycle.create(changed))

    answers = await asyncio.gather(*(voter.ask(f"c{1 + n % 3:02}") for voter in voters for n in range(5)))
    await changing

    refused = {answer.json()["code"] for answer in answers if answer.status_code != 200}
    assert refused <= {"rules_moved"}
    settled = [await voter.statuses("c01", "c02", "c03") for voter in voters]
    assert all(set(each) <= {"counted", "already_liked"} for each in settled)
