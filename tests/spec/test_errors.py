"""Every refusal is a problem document with a stable code, and no input at all makes a server fail."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from dianzan.domain.voters import VoterClass
from tests.conftest import NewCampaign
from tests.support.client import CampaignClient, VoterClient
from tests.support.service import running
from tests.support.system import System
from tests.support.wait import until

JSON = {"content-type": "application/json"}
LIKE = {"candidates": ["c01"]}


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is the RFC 9457 document of that code."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code
    assert problem["type"] == f"urn:dianzan:problem:{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    return problem


@dataclass(frozen=True)
class Request:
    """One request to a campaign's like address; the token is a good one unless said otherwise."""

    content: bytes = json.dumps(LIKE).encode()
    media_type: str = "application/json"
    authorization: str = "Bearer {token}"
    method: str = "POST"


REFUSED = [
    ("not JSON", Request(b"{"), 400, "bad_request"),
    ("no text", Request(b"\xff\xfe"), 400, "bad_request"),
    ("nothing", Request(b""), 400, "bad_request"),
    ("no object", Request(b"[]"), 400, "bad_request"),
    ("no candidates", Request(b"{}"), 400, "bad_request"),
    ("an empty list", Request(b'{"candidates": []}'), 400, "bad_request"),
    ("a code that is a number", Request(b'{"candidates": [1]}'), 400, "bad_request"),
    ("half a character", Request(b'{"candidates": ["\\ud800"]}'), 400, "bad_request"),
    ("more than the quota", Request(b'{"candidates": ["1", "2", "3", "4"]}'), 400, "bad_request"),
    ("ten thousand lists", Request(b'{"candidates": ["c01"], "x": ' + b"[" * 10_000), 400, "bad_request"),
    ("no token", Request(authorization=""), 401, "token_missing"),
    ("another scheme", Request(authorization="Basic {token}"), 401, "token_missing"),
    ("an empty token", Request(authorization="Bearer"), 401, "token_invalid"),
    ("an altered token", Request(authorization="Bearer A{token}"), 401, "token_invalid"),
    ("a token no one gave", Request(authorization="Bearer " + "A" * 48), 401, "token_invalid"),
    ("a body of 17 KB", Request(b'{"candidates": ["' + b"a" * 17_000 + b'"]}'), 413, "body_too_large"),
    ("a form", Request(media_type="application/x-www-form-urlencoded"), 415, "media_type_unsupported"),
    ("no media type", Request(media_type=""), 415, "media_type_unsupported"),
    ("another method", Request(method="PUT"), 405, "method_not_allowed"),
    ("reading the likes", Request(method="GET"), 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("request_", "status", "code"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
async def test_a_like_request_that_is_wrong_is_refused_by_name(
    open_campaign: CampaignClient, request_: Request, status: int, code: str
) -> None:
    voter = await open_campaign.voter()
    headers = {"authorization": request_.authorization.format(token=voter.token), "content-type": request_.media_type}
    given = {name: value for name, value in headers.items() if value}

    answer = await open_campaign.http.request(request_.method, voter.likes_url, content=request_.content, headers=given)

    assert_problem(answer, status, code)
    assert (await voter.mine())["likes"] == []


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"[]", "application/json", 400, "bad_request"),
        (b'{"publisher": 7}', "application/json", 400, "bad_request"),
        (b'{"publisher": "' + b"a" * 17_000 + b'"}', "application/json", 413, "body_too_large"),
        (b"{}", "text/html", 415, "media_type_unsupported"),
    ],
)
async def test_a_request_for_a_token_that_is_wrong_is_refused_by_name(
    open_campaign: CampaignClient, content: bytes, media_type: str, status: int, code: str
) -> None:
    headers = {"content-type": media_type}

    answer = await open_campaign.http.post(f"{open_campaign.vote_url}/voters", content=content, headers=headers)

    assert_problem(answer, status, code)


async def test_a_token_needs_neither_a_body_nor_a_media_type(open_campaign: CampaignClient) -> None:
    answer = await open_campaign.http.post(f"{open_campaign.vote_url}/voters")

    assert answer.status_code == 200, answer.text
    assert (await open_campaign.with_token(answer.json()["token"]).statuses("c01")) == ["counted"]


@pytest.mark.parametrize(("content", "media_type"), [(b"{}", None), (b"", "text/html")])
async def test_a_body_without_a_media_type_and_a_wrong_one_without_a_body_are_refused(
    open_campaign: CampaignClient, content: bytes, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"content-type": media_type}

    answer = await open_campaign.http.post(f"{open_campaign.vote_url}/voters", content=content, headers=headers)

    assert_problem(answer, 415, "media_type_unsupported")


async def test_a_token_counts_in_its_own_campaign_only(new_campaign: NewCampaign) -> None:
    one, two = await new_campaign(), await new_campaign()
    voter = await one.voter()

    elsewhere = two.with_token(voter.token)

    assert_problem(await elsewhere.ask("c01"), 401, "token_invalid")
    mine = await two.http.get(f"{two.vote_url}/likes/mine", headers={"authorization": f"Bearer {voter.token}"})
    assert_problem(mine, 401, "token_invalid")


async def test_an_expired_token_is_refused(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.known_voter("late", made_s=1)

    answer = await voter.ask("c01")

    assert_problem(answer, 401, "token_expired")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_voter_class_the_campaign_does_not_take_is_refused(new_campaign: NewCampaign) -> None:
    devices, verified = await new_campaign(), await new_campaign(voter_classes=["verified"])

    other = await devices.known_voter("someone", VoterClass.verified)

    assert_problem(await other.ask("c01"), 403, "class_not_allowed")
    assert_problem(await verified.http.post(f"{verified.vote_url}/voters", json={}), 403, "class_not_allowed")
    assert await (await verified.known_voter("someone", VoterClass.verified)).statuses("c01") == ["counted"]


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("POST /v1/campaigns/nothing-here/likes", 404, "campaign_unknown"),
        ("POST /v1/campaigns/nothing-here/voters", 404, "campaign_unknown"),
        ("GET /v1/campaigns/nothing-here/likes/mine", 404, "campaign_unknown"),
        ("POST /v1/campaigns/Nothing%20Here/likes", 404, "campaign_unknown"),
        ("GET /v1/nothing", 404, "not_found"),
        ("DELETE /v1/campaigns/demo/voters", 405, "method_not_allowed"),
        ("POST /healthz", 405, "method_not_allowed"),
    ],
)
async def test_addresses_of_the_vote_api_that_lead_nowhere_say_so(
    system: System, http: httpx.AsyncClient, asked: str, status: int, code: str
) -> None:
    method, path = asked.split(" ")

    answer = await http.request(method, system.vote_url + path, content=b"{}", headers=JSON)
    assert_problem(answer, status, code)
    assert (status == 405) == bool(answer.headers.get("allow"))


async def test_no_like_is_taken_before_the_campaign_opens(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(opens=datetime.now(UTC) + timedelta(hours=1))
    voter = await campaign.known_voter("early")

    assert_problem(await voter.ask("c01"), 409, "not_open")
    assert_problem(await voter.ask("nobody"), 409, "not_open")
    assert (await voter.mine())["likes"] == []


async def test_no_like_is_taken_after_the_campaign_was_closed(campaign: CampaignClient) -> None:
    voter = await campaign.voter()
    await campaign.stores.lifecycle.close(campaign.id)

    assert_problem(await voter.ask("c01"), 409, "closed")


async def test_no_like_is_taken_after_the_end_that_was_announced(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(closes=datetime.now(UTC) + timedelta(seconds=2))
    voter = await campaign.voter()
    assert await voter.statuses("c01") == ["counted"]

    answer = await _first_refusal(lambda: voter.ask("c02", "c01"))

    assert_problem(answer, 409, "closed")
    assert_problem(await voter.ask("nobody"), 409, "closed")


async def _first_refusal(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    async def refused() -> httpx.Response | None:
        answer = await ask()
        return answer if answer.status_code != 200 else None

    found = await until(refused, what="the campaign ends")
    assert found is not None
    return found


async def test_a_network_that_asks_for_too_many_tokens_is_told_when_to_come_back(
    open_campaign: CampaignClient, tmp_path: Path
) -> None:
    settings = {"DIANZAN_TOKENS_PER_NETWORK_MINUTE": "2"}
    async with running("vote_api", open_campaign.system.stores, tmp_path, **settings) as limited:
        here = replace(open_campaign, system=replace(open_campaign.system, vote_port=limited.port))
        await here.until_served()

        async def asked(address: str) -> httpx.Response:
            headers = {"x-forwarded-for": address}
            return await here.http.post(f"{here.vote_url}/voters", json={}, headers=headers)

        answer = await _first_refusal(lambda: asked("203.0.113.7"))
        elsewhere = await asked("198.51.100.7")

    assert_problem(answer, 429, "too_many_requests")
    assert elsewhere.status_code == 200, "another network is not held up"


async def test_a_client_that_hangs_up_in_the_middle_of_its_request_is_no_failure(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()

    async def half_sent(path: str) -> VoterClient:
        url = httpx.URL(open_campaign.vote_url + path)

        async def body() -> Any:
            yield b'{"candidates": '
            raise ConnectionAbortedError("the client goes away")

        with pytest.raises(ConnectionAbortedError):
            await open_campaign.http.post(url, content=body(), headers=JSON)
        return voter

    for path in ("/likes", "/voters"):
        await half_sent(path)

    assert await voter.statuses("c01") == ["counted"]
