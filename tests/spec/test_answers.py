"""What holds for every answer of both APIs: strict headers, HEAD beside GET, and nothing made of the Host header."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest

from tests.support.client import CampaignClient

STRICT = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
POLICY = ("object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'")

VOTE = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/nosuch", "/v1/campaigns/ID/likes/mine")
RESULTS = (
    "/",
    "/c/ID",
    "/c/ID/",
    "/c/nosuch",
    "/c/ID/c01",
    "/like-button.js",
    "/web/like-button.js",
    "/web/page/start.js",
    "/web/page/base.css",
    "/web/config.json",
    "/favicon.ico",
    "/robots.txt",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/redoc",
    "/nosuch",
    "/v1/campaigns",
    "/v1/campaigns/ID",
    "/v1/campaigns/nosuch",
    "/v1/campaigns/ID/results",
    "/v1/campaigns/ID/candidates/c01",
    "/v1/campaigns/ID/timeline",
    "/v1/campaigns/ID/tally.csv",
    "/v1/campaigns/ID/tally.json",
)


def urls(campaign: CampaignClient, api: str, paths: Sequence[str]) -> list[str]:
    root = campaign.system.vote_url if api == "vote" else campaign.system.results_url
    return [root + path.replace("ID", campaign.id) for path in paths]


@pytest.mark.parametrize(("api", "paths"), [("vote", VOTE), ("results", RESULTS)])
async def test_every_answer_has_strict_headers(
    open_campaign: CampaignClient, http: httpx.AsyncClient, api: str, paths: Sequence[str]
) -> None:
    for url in urls(open_campaign, api, paths):
        answer = await http.get(url)
        assert {name: answer.headers.get(name) for name in STRICT} == STRICT, url
        assert all(part in answer.headers["content-security-policy"] for part in POLICY), url


async def test_a_likes_answer_is_taken_for_nothing_else(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()

    for answer in (await voter.ask("c04"), await open_campaign.with_token("none").ask("c04")):
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_page_may_ask_the_two_apis_and_nobody_else(
    open_campaign: CampaignClient, http: httpx.AsyncClient
) -> None:
    [url] = urls(open_campaign, "results", ["/c/ID"])
    policy = (await http.get(url)).headers["content-security-policy"]

    assert f"connect-src 'self' {open_campaign.system.vote_url};" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(("api", "paths"), [("vote", VOTE), ("results", RESULTS)])
async def test_head_is_answered_where_get_is(
    open_campaign: CampaignClient, http: httpx.AsyncClient, api: str, paths: Sequence[str]
) -> None:
    for url in urls(open_campaign, api, paths):
        whole, head = await http.get(url), await http.head(url)
        assert (head.status_code, head.content) == (whole.status_code, b""), url


async def test_a_stream_has_no_head(open_campaign: CampaignClient, http: httpx.AsyncClient) -> None:
    [url] = urls(open_campaign, "results", ["/v1/campaigns/ID/results/stream"])

    assert (await http.head(url)).status_code == 405


@pytest.mark.parametrize("path", ["/c/ID/", "/docs/", "/healthz/", "/web/", "/v1/campaigns/"])
async def test_no_answer_is_made_from_the_host(
    open_campaign: CampaignClient, http: httpx.AsyncClient, path: str
) -> None:
    for api in ("vote", "results"):
        [url] = urls(open_campaign, api, [path])
        answer = await http.get(url, headers={"host": "evil.example", "x-forwarded-proto": "https"})
        assert "location" not in answer.headers
        assert "evil.example" not in answer.text


async def test_both_spellings_of_a_page_serve_it(open_campaign: CampaignClient, http: httpx.AsyncClient) -> None:
    for url in urls(open_campaign, "results", ["/c/ID", "/c/ID/"]):
        answer = await http.get(url)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", ["/nosuch", "/c", "/index.html", "/ID"])
async def test_people_get_a_page_wherever_there_is_none_and_programs_a_problem(
    open_campaign: CampaignClient, http: httpx.AsyncClient, path: str
) -> None:
    [url] = urls(open_campaign, "results", [path])

    of_people = await http.get(url, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    of_programs = await http.get(url, headers={"accept": "*/*"})

    assert (of_people.status_code, of_people.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (of_programs.status_code, of_programs.json()["code"]) == (404, "not_found")


async def test_a_campaign_may_be_typed_in_capitals_everywhere(
    open_campaign: CampaignClient, http: httpx.AsyncClient
) -> None:
    known, typed = open_campaign.id, open_campaign.id.upper()
    assert known != typed
    voter = await open_campaign.voter()
    body, token = {"candidates": ["c05"]}, {"authorization": f"Bearer {voter.token}"}

    liked = await http.post(f"{open_campaign.vote_url.replace(known, typed)}/likes", json=body, headers=token)
    read = await http.get(f"{open_campaign.results_url.replace(known, typed)}/results")

    assert liked.json()["results"][0]["status"] == "counted"
    assert read.json()["campaign"] == known


@pytest.mark.parametrize("path", ["/c/nosuch", "/c/nosuch/", "/c/ID/c17", "/c/ID/c17/more", "/c/"])
async def test_who_mistypes_a_page_gets_one_that_leads_on(
    open_campaign: CampaignClient, http: httpx.AsyncClient, path: str
) -> None:
    [url] = urls(open_campaign, "results", [path])
    answer = await http.get(url)

    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")


async def test_browsers_and_robots_get_what_they_ask_unasked(
    open_campaign: CampaignClient, http: httpx.AsyncClient
) -> None:
    icon, robots = [await http.get(url) for url in urls(open_campaign, "results", ["/favicon.ico", "/robots.txt"])]

    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert (robots.status_code, "User-agent: *" in robots.text) == (200, True)
