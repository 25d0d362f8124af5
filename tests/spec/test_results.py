"""What readers are promised: every like within two seconds, in each document, and two numbers everywhere."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dianzan.cli.stores import Stores
from tests.conftest import NewCampaign
from tests.spec.conftest import ReadAgain
from tests.spec.test_errors import assert_problem
from tests.support.client import CampaignClient, candidates, rules
from tests.support.stream import streamed
from tests.support.wait import until

TOTALS = {"likes", "people", "people_estimated", "as_of", "sealed", "version"}
ROW = {"rank", "code", "name", "pinyin", "kind", "district", "category", "summary", "photo", "likes", "people"}
ORIGIN = {"origin": "https://media.example"}


@pytest.fixture(scope="module")
async def counted(lasting_campaign: NewCampaign) -> CampaignClient:
    """Three people: c02 has 3 likes, c01 and c04 have 2 each, c03 and c05 have none."""
    campaign = await lasting_campaign(timezone="America/New_York", shards=3)
    for codes in (["c02", "c01"], ["c02", "c04"], ["c02", "c01", "c04"]):
        await (await campaign.voter()).like(*codes)
    await until_likes(campaign, 7)
    return campaign


async def until_likes(campaign: CampaignClient, likes: int) -> None:
    """Wait as long as is promised until the results show that many likes."""

    async def shown() -> bool:
        return bool((await campaign.results())["likes"] == likes)

    await until(shown, within_s=2, what=f"{likes} likes are in the results")


async def test_the_results_list_every_candidate_by_rank_and_equals_share_one(counted: CampaignClient) -> None:
    results = await counted.results()

    assert set(results) == {"campaign", "state", "opens", "closes", "results", *TOTALS}
    assert all(set(row) == ROW for row in results["results"])
    assert [(row["rank"], row["code"], row["likes"]) for row in results["results"]] == [
        (1, "c02", 3),
        (2, "c01", 2),
        (2, "c04", 2),
        (4, "c03", 0),
        (4, "c05", 0),
    ]


async def test_likes_and_people_are_two_numbers_and_an_estimate_says_so(counted: CampaignClient) -> None:
    results = await counted.results()

    assert (results["likes"], results["people"]) == (7, 3)
    assert [row["people"] for row in results["results"]] == [3, 2, 2, 0, 0]
    assert (results["people_estimated"], results["sealed"]) == (True, False)


async def test_the_results_say_when_they_were_read(counted: CampaignClient) -> None:
    as_of = datetime.fromisoformat((await counted.results())["as_of"])

    assert abs(datetime.now(as_of.tzinfo) - as_of) < timedelta(seconds=8), (
        "of unchanged numbers it is renewed every 5 s"
    )


async def test_a_candidate_has_a_document_of_its_own(counted: CampaignClient) -> None:
    document = (await counted.get("/candidates/c04")).json()

    assert set(document) == ROW | {"campaign", "story", "people_estimated", "as_of", "sealed", "version"}
    assert (document["rank"], document["likes"], document["people"]) == (2, 2, 2)
    assert (document["name"], document["story"]) == ("候选人4", "事迹")


async def test_a_campaign_shows_its_rules_but_not_how_it_is_stored(counted: CampaignClient) -> None:
    summary = (await counted.get()).json()

    assert (summary["id"], summary["title"], summary["state"]) == (counted.id, "为榜样点赞", "published")
    assert (summary["candidates"], summary["likes_per_window"], summary["window"]) == (5, 3, "day")
    assert datetime.fromisoformat(summary["closes"]).utcoffset() in (timedelta(hours=-5), timedelta(hours=-4))
    assert not {"secret", "shards", "expected_voters"} & set(summary)


async def test_all_published_campaigns_are_listed(counted: CampaignClient) -> None:
    listed = (await counted.http.get(f"{counted.system.results_url}/v1/campaigns")).json()["campaigns"]

    assert {"demo", counted.id} <= {each["id"] for each in listed}
    assert (await counted.get()).json() in listed


async def test_the_timeline_counts_hours_and_days_of_the_campaigns_zone(counted: CampaignClient) -> None:
    timeline = (await counted.get("/timeline")).json()
    zone = ZoneInfo("America/New_York")

    assert timeline["timezone"] == "America/New_York"
    assert sum(hour["likes"] for hour in timeline["hours"]) == 7
    assert sum(day["likes"] for day in timeline["days"]) == 7
    hours = [datetime.fromisoformat(hour["hour"]) for hour in timeline["hours"]]
    assert all(hour.utcoffset() == hour.astimezone(zone).utcoffset() and hour.minute == 0 for hour in hours)
    assert datetime.now(zone) - hours[-1] < timedelta(hours=2)
    assert [day["day"] for day in timeline["days"]] == sorted({hour.date().isoformat() for hour in hours})


async def test_hours_begin_with_the_zones_own_hour_where_its_offset_is_a_half(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(timezone="Asia/Kolkata")
    await (await campaign.voter()).like("c01")

    async def hours() -> list[str]:
        return [hour["hour"] for hour in (await campaign.get("/timeline")).json()["hours"]]

    (hour,) = await until(hours)
    assert hour.endswith(":00:00+05:30")


async def test_the_tally_is_there_as_csv_and_as_json(counted: CampaignClient) -> None:
    answer, document = await counted.get("/tally.csv"), (await counted.get("/tally.json")).json()

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert rows[0] == {"rank": "1", "code": "c02", "name": "候选人2", "likes": "3", "people": "3"}
    assert [{name: str(value) for name, value in row.items()} for row in document["tally"]] == rows
    assert (document["likes"], document["people"], document["sealed"]) == (7, 3, False)


@pytest.mark.parametrize(
    "path", ["", "/results", "/candidates/c01", "/timeline", "/tally.csv", "/tally.json"], ids=lambda path: path[1:]
)
async def test_an_unchanged_document_is_not_sent_again(counted: CampaignClient, path: str) -> None:
    first = await counted.get(path)

    again = await counted.get(path, **{"if-none-match": first.headers["etag"]})
    other = await counted.get(path, **{"if-none-match": '"another"'})

    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert other.status_code == 200
    assert first.headers["cache-control"] == again.headers["cache-control"]
    assert first.headers["cache-control"] == "public, max-age=1", "a cache may add one second to what is promised"


async def test_a_like_changes_the_entity_tag(campaign: CampaignClient) -> None:
    before = (await campaign.get("/results")).headers["etag"]
    await (await campaign.voter()).like("c01")
    await until_likes(campaign, 1)

    assert (await campaign.get("/results", **{"if-none-match": before})).status_code == 200


async def test_the_stream_begins_with_the_results_and_tells_a_like_within_two_seconds(
    new_campaign: NewCampaign,
) -> None:
    campaign = await new_campaign(roster=2)

    async with streamed(campaign) as events:
        first = await events.until_number(1)
        await (await campaign.voter()).like("c02")
        second = await events.until_number(2)

    assert first["counts"] == {"c01": [None, 0, 0], "c02": [None, 0, 0]}
    assert second["counts"] == {"c01": [2, 0, 0], "c02": [1, 1, 1]}
    assert (second["likes"], second["people"], second["people_estimated"], second["sealed"]) == (1, 1, True, False)
    assert {name for name, _data in events.read} == {"results"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/campaigns/nothing", "campaign_unknown"),
        ("/v1/campaigns/nothing/results", "campaign_unknown"),
        ("/v1/campaigns/nothing/candidates/c01", "campaign_unknown"),
        ("/v1/campaigns/nothing/timeline", "campaign_unknown"),
        ("/v1/campaigns/nothing/results/stream", "campaign_unknown"),
        ("/v1/campaigns/nothing/tally.csv", "campaign_unknown"),
        ("/v1/campaigns/nothing/tally.json", "campaign_unknown"),
        ("/v1/campaigns/demo/candidates/nobody", "candidate_unknown"),
        ("/v1/nothing", "not_found"),
    ],
)
async def test_what_does_not_exist_is_not_found(counted: CampaignClient, path: str, code: str) -> None:
    assert_problem(await counted.http.get(counted.system.results_url + path), 404, code)


@pytest.mark.parametrize("path", ["", "/results", "/candidates/c01", "/tally.csv"], ids=lambda path: path[1:])
async def test_a_reader_may_ask_for_the_headers_alone(counted: CampaignClient, path: str) -> None:
    whole, headers = await counted.get(path), await counted.http.head(counted.results_url + path)

    assert (headers.status_code, headers.content) == (200, b"")
    same = ("etag", "content-type", "content-length", "cache-control")
    assert [headers.headers[name] for name in same] == [whole.headers[name] for name in same]


async def test_the_results_are_read_only(counted: CampaignClient) -> None:
    refused = await counted.http.post(f"{counted.results_url}/results")

    assert_problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, HEAD"


async def test_a_candidate_is_found_by_its_code_in_any_case(counted: CampaignClient) -> None:
    assert (await counted.get("/candidates/C04")).json() == (await counted.get("/candidates/c04")).json()


async def test_a_draft_is_seen_nowhere(counted: CampaignClient, stores: Stores, read_again: ReadAgain) -> None:
    draft = rules()
    await stores.lifecycle.create(draft)
    await stores.lifecycle.import_candidates(draft.id, candidates(2))
    await read_again()

    hidden = CampaignClient(draft.id, counted.http, counted.system, stores)
    listed = await counted.http.get(f"{counted.system.results_url}/v1/campaigns")
    assert draft.id not in [each["id"] for each in listed.json()["campaigns"]]
    assert_problem(await hidden.get(), 404, "campaign_unknown")
    assert_problem(await hidden.get("/results"), 404, "campaign_unknown")
    assert_problem(await counted.http.post(f"{hidden.vote_url}/voters", json={}), 404, "campaign_unknown")


async def test_another_site_may_read_results_and_send_likes_without_a_preflight(
    open_campaign: CampaignClient,
) -> None:
    voter = await open_campaign.voter()
    plain = {**ORIGIN, "content-type": "text/plain"}
    ballot = f'{{"candidates": ["c01"], "token": "{voter.token}"}}'

    like = await open_campaign.http.post(voter.likes_url, content=ballot, headers=plain)
    refused = await open_campaign.http.post(voter.likes_url, content=b"{", headers=plain)
    token = await open_campaign.http.post(f"{open_campaign.vote_url}/voters", content=b"{}", headers=plain)
    read = await open_campaign.get("/results", **ORIGIN)

    assert [answer.status_code for answer in (like, refused, token, read)] == [200, 400, 200, 200]
    assert {answer.headers["access-control-allow-origin"] for answer in (like, refused, token, read)} == {"*"}


@pytest.mark.parametrize(("path", "method"), [("/likes", "POST"), ("/voters", "POST"), ("/likes/mine", "GET")])
async def test_a_browser_that_asks_first_is_allowed(open_campaign: CampaignClient, path: str, method: str) -> None:
    asked = {
        **ORIGIN,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type",
    }

    answer = await open_campaign.http.request("OPTIONS", open_campaign.vote_url + path, headers=asked)

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert method in answer.headers["access-control-allow-methods"]
    assert {"authorization", "content-type"} <= set(answer.headers["access-control-allow-headers"].split(","))


@pytest.mark.parametrize("address", ["vote_url", "results_url", "worker_url"])
async def test_each_service_tells_its_health_its_readiness_and_its_metrics(
    open_campaign: CampaignClient, address: str
) -> None:
    url = getattr(open_campaign.system, address)

    answers = [await open_campaign.http.get(url + path) for path in ("/healthz", "/readyz", "/metrics")]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert "# HELP dianzan_" in answers[2].text
