"""Hidden results leak nowhere until the campaign is sealed; then they are shown whole."""

from __future__ import annotations

import re

import pytest

from tests.conftest import NewCampaign
from tests.spec.conftest import ReadAgain
from tests.spec.test_errors import assert_problem
from tests.support.client import CampaignClient
from tests.support.database import until_in_ledger
from tests.support.stream import streamed
from tests.support.system import END

DOCUMENTS = ["", "/results", "/candidates/c01", "/candidates/c05", "/timeline"]


async def cast(campaign: CampaignClient) -> None:
    """Four voters like c05, one of them c01 too; ends when the ledger holds it."""
    voters = [await campaign.voter() for _ in range(4)]
    for voter in voters:
        await voter.like("c05")
    await voters[-1].like("c01")
    await until_in_ledger(campaign, 5)


@pytest.fixture(scope="module")
async def hidden(lasting_campaign: NewCampaign) -> CampaignClient:
    """A hidden campaign that has had its likes: c05 leads with four, c01 has one."""
    campaign = await lasting_campaign(results="hidden")
    await cast(campaign)
    return campaign


@pytest.fixture(autouse=True)
async def likes_could_be_seen(hidden: CampaignClient, read_again: ReadAgain) -> None:
    """Every test looks after the results API has read what it must not tell."""
    await read_again()


async def test_neither_numbers_nor_the_order_tell_who_leads(hidden: CampaignClient) -> None:
    results = await hidden.results()

    assert (results["likes"], results["people"], results["sealed"]) == (None, None, False)
    assert [(row["code"], row["rank"], row["likes"], row["people"]) for row in results["results"]] == [
        (code, None, None, None) for code in ("c01", "c02", "c03", "c04", "c05")
    ]


async def test_a_candidates_own_document_tells_nothing(hidden: CampaignClient) -> None:
    document = (await hidden.get("/candidates/c05")).json()

    assert (document["rank"], document["likes"], document["people"]) == (None, None, None)


async def test_the_timeline_tells_nothing(hidden: CampaignClient) -> None:
    timeline = (await hidden.get("/timeline")).json()

    assert (timeline["hours"], timeline["days"]) == (None, None)


@pytest.mark.parametrize("path", ["/tally.csv", "/tally.json"])
async def test_there_is_no_tally(hidden: CampaignClient, path: str) -> None:
    assert_problem(await hidden.get(path), 403, "results_hidden")


async def test_the_list_of_campaigns_says_hidden_and_no_number(hidden: CampaignClient) -> None:
    listed = (await hidden.http.get(f"{hidden.system.results_url}/v1/campaigns")).json()["campaigns"]
    summary = next(each for each in listed if each["id"] == hidden.id)

    assert summary["results"] == "hidden"
    assert not {"likes", "people"} & set(summary)


async def test_the_answer_to_a_like_tells_of_this_voter_alone(hidden: CampaignClient) -> None:
    voter = await hidden.voter()

    answer = await voter.like("c05")

    assert set(answer) == {"results", "remaining", "resets_at"}
    assert set(answer["results"][0]) == {"candidate", "status", "receipt"}
    mine = await voter.mine()
    assert set(mine) == {"likes", "remaining", "resets_at"}
    assert [set(like) for like in mine["likes"]] == [{"candidate", "receipt"}]


async def test_the_metrics_of_the_results_do_not_name_the_campaign(hidden: CampaignClient) -> None:
    metrics = (await hidden.http.get(f"{hidden.system.results_url}/metrics")).text

    assert 'dianzan_published_likes{campaign="demo"}' in metrics
    assert not re.findall(rf'.*"{hidden.id}".*', metrics)


async def test_no_entity_tag_and_no_event_tells_that_a_like_was_cast(
    new_campaign: NewCampaign, read_again: ReadAgain
) -> None:
    campaign = await new_campaign(results="hidden")
    before = {path: (await campaign.get(path)).headers["etag"] for path in DOCUMENTS}

    async with streamed(campaign) as events:
        first = await events.until_number(1)
        await cast(campaign)
        await read_again()
        after = {path: (await campaign.get(path)).headers["etag"] for path in DOCUMENTS}

    assert (first["counts"], first["likes"], first["people"]) == ({}, None, None)
    assert len(events.read) == 1
    assert after == before


async def test_the_time_of_reading_does_not_follow_the_likes(hidden: CampaignClient, read_again: ReadAgain) -> None:
    said = set()

    for _ in range(4):
        await (await hidden.voter()).like("c02")
        await read_again()
        said.add((await hidden.results())["as_of"])

    assert len(said) < 4, "it was renewed with every like"


async def test_closing_shows_nothing_and_sealing_shows_everything(
    new_campaign: NewCampaign, read_again: ReadAgain
) -> None:
    campaign = await new_campaign(results="hidden")
    await cast(campaign)
    await campaign.stores.lifecycle.close(campaign.id)
    await read_again()
    assert (await campaign.results())["likes"] is None
    assert_problem(await campaign.get("/tally.csv"), 403, "results_hidden")

    campaign.system.cli("seal", campaign.id, *END)
    await read_again()

    results = await campaign.results()
    assert (results["likes"], results["people"], results["sealed"]) == (5, 4, True)
    assert [(row["rank"], row["code"], row["likes"]) for row in results["results"][:2]] == [
        (1, "c05", 4),
        (2, "c01", 1),
    ]
    assert (await campaign.get("/candidates/c05")).json()["likes"] == 4
    assert (await campaign.get("/timeline")).json()["days"][0]["likes"] == 5
    assert (await campaign.get("/tally.csv")).status_code == 200
