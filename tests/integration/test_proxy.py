"""The shipped nginx configuration in front of the real services: routes, addresses, limits, cache, stream."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from dianzan.domain.errors import BodyTooLarge, Unavailable
from dianzan.domain.limits import BODY_BYTES_MAX
from dianzan.http import problem
from tests.support.client import CampaignClient, VoterClient
from tests.support.stream import streamed
from tests.support.system import System, free_port
from tests.support.wait import until

DEPLOY = Path(__file__).parents[2] / "deploy"
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
FORGED = {"x-forwarded-for": "203.0.113.9"}

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt install nginx-light)")


@dataclass(frozen=True)
class Proxy:
    """A running nginx on the shipped configuration."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def before(self, campaign: CampaignClient) -> CampaignClient:
        """The same campaign as the public sees it, both services at the proxy's address."""
        door = System(campaign.system.data, vote_port=self.port, results_port=self.port)
        return replace(campaign, system=door)


def upstreams(vote_ports: Sequence[int], results_port: int) -> str:
    """The shipped upstreams with these addresses in the place of the containers' names."""
    text = re.sub(r"(?m)^resolver .*$", "", (DEPLOY / "upstreams.conf").read_text())
    ports = cycle(vote_ports)
    text, votes = re.subn(r"vote-api-\d:8000 (.*) resolve;", lambda found: f"127.0.0.1:{next(ports)} {found[1]};", text)
    text, results = re.subn(r"results-api:8001 (.*) resolve;", rf"127.0.0.1:{results_port} \1;", text)
    assert (votes, results) == (2, 1)
    return text


@contextmanager
def running_proxy(vote_port: int, results_port: int, *more_vote_ports: int) -> Iterator[Proxy]:
    """nginx as an ordinary user, on a folder of its own, until the block ends."""
    port, user = free_port(), "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="dianzan-proxy-") as name:
        folder, log = Path(name), Path(name) / "access.log"
        text = (DEPLOY / "nginx.conf").read_text()
        assert text.count("listen 8080 ") == 1
        (folder / "nginx.conf").write_text(text.replace("listen 8080 ", f"listen 127.0.0.1:{port} "))
        (folder / "upstreams.conf").write_text(upstreams([vote_port, *more_vote_ports], results_port))
        if user is not None:
            shutil.chown(folder, user)
        command = [str(NGINX), "-p", name, "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        # Its standard output is a socket, as systemd gives it one.
        journal, output = socket.socketpair()
        with journal, output, (folder / "errors.log").open("wb") as errors:
            process = subprocess.Popen(command, stdout=output.fileno(), stderr=errors, user=user)
        try:
            yield Proxy(port, log)
        finally:
            assert process.poll() is None, (folder / "errors.log").read_text()
            process.terminate()
            process.wait(10)


async def until_answers(proxy: Proxy, http: httpx.AsyncClient) -> None:
    """Wait until nginx itself answers."""

    async def answers() -> bool:
        try:
            return (await http.get(f"{proxy.url}/proxyz")).text == "ok\n"
        except httpx.TransportError:
            return False

    await until(answers, what="nginx answers")


@pytest.fixture(scope="module")
async def proxy(system: System, http: httpx.AsyncClient) -> Any:
    """One proxy before the shared system."""
    with running_proxy(system.vote_port, system.results_port) as running:
        await until_answers(running, http)
        yield running


@pytest.fixture
def door(proxy: Proxy, campaign: CampaignClient) -> CampaignClient:
    """A campaign seen through the proxy."""
    return proxy.before(campaign)


async def test_a_like_through_the_proxy_is_counted_and_seen_in_the_results(door: CampaignClient) -> None:
    voter = await door.voter()

    assert await voter.statuses("c01", "c02") == ["counted", "counted"]
    assert [like["candidate"] for like in (await voter.mine())["likes"]] == ["c01", "c02"]

    async def seen() -> bool:
        return await door.likes_of("c02") == 1

    await until(seen, within_s=4)


async def test_every_other_address_leads_to_the_results_api(proxy: Proxy, http: httpx.AsyncClient) -> None:
    page = await http.get(f"{proxy.url}/")
    unknown = await http.get(f"{proxy.url}/v1/campaigns/nowhere/likes/yours")

    assert page.headers["content-type"].startswith("text/html")
    assert unknown.json()["code"] == "not_found"


async def test_an_event_passes_at_once(door: CampaignClient) -> None:
    async with streamed(door) as events:
        first = await events.until_number(1, within_s=1)
        assert first["likes"] == 0

        await (await door.voter()).like("c01")

        assert (await events.until_number(2, within_s=4))["likes"] == 1


async def _networks(campaign: CampaignClient, rows: int) -> dict[int, int]:
    """Candidate index -> network tag in the ledger, once there are so many likes."""
    number = (await campaign.stores.lifecycle.stored(campaign.id)).number
    connection = await asyncpg.connect(campaign.system.stores.database_url, ssl=False)

    async def flushed() -> dict[int, int]:
        found = await connection.fetch("SELECT candidate, network FROM likes WHERE campaign = $1", number)
        return {row["candidate"]: row["network"] for row in found} if len(found) == rows else {}

    try:
        return await until(flushed, what=f"{rows} likes in the ledger")
    finally:
        await connection.close()


async def _like(voter: VoterClient, candidate: str, headers: dict[str, str]) -> None:
    headers = {"authorization": f"Bearer {voter.token}", **headers}
    answer = await voter.http.post(voter.likes_url, json={"candidates": [candidate]}, headers=headers)
    assert answer.status_code == 200, answer.text


async def test_a_client_cannot_choose_the_network_of_its_likes(proxy: Proxy, campaign: CampaignClient) -> None:
    door = proxy.before(campaign)
    await _like(await door.voter(), "c01", {})
    await _like(await door.voter(), "c02", FORGED)
    await _like(await campaign.voter(), "c03", FORGED)  # as the trusted proxy itself, whose word is taken

    networks = await _networks(campaign, rows=3)

    assert networks[1] == networks[2]
    assert networks[1] != networks[3]


async def test_a_body_over_the_limit_is_refused_as_the_vote_api_would(door: CampaignClient) -> None:
    voter = await door.voter()

    answer = await voter.ask("x" * BODY_BYTES_MAX)

    assert answer.status_code == 413
    assert answer.headers["content-type"] == problem.MEDIA_TYPE
    assert answer.json() == json.loads(problem.body(BodyTooLarge(f"Send at most {BODY_BYTES_MAX} bytes.")))


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/%6Detrics", "/v1/../metrics", "/metrics?x=1"])
async def test_metrics_are_not_public(proxy: Proxy, http: httpx.AsyncClient, path: str) -> None:
    request = http.build_request("GET", proxy.url)
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = await http.send(request)

    assert answer.status_code == 404
    assert "dianzan_" not in answer.text


@pytest.mark.parametrize("written", ["{id}%2Flikes", "{id}/likes%3Fx", "{id}%2Fvoters"])
async def test_a_route_has_one_spelling_through_the_proxy_too(
    proxy: Proxy, campaign: CampaignClient, http: httpx.AsyncClient, written: str
) -> None:
    voter = await campaign.voter()
    request = http.build_request(
        "POST", proxy.url, json={"candidates": ["c01"]}, headers={"authorization": f"Bearer {voter.token}"}
    )
    request.url = request.url.copy_with(raw_path=f"/v1/campaigns/{written.format(id=campaign.id)}".encode())

    assert (await http.send(request)).status_code == 404
    assert (await voter.mine())["likes"] == []


async def test_services_that_are_away_are_a_503_that_says_ask_again(http: httpx.AsyncClient) -> None:
    with running_proxy(free_port(), free_port()) as proxy:
        await until_answers(proxy, http)
        answers = [
            await http.post(f"{proxy.url}/v1/campaigns/x/likes", json={"candidates": ["c01"]}),
            await http.get(f"{proxy.url}/v1/campaigns/x/results"),
        ]

    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["access-control-allow-origin"] == "*"
        told = problem.body(Unavailable("Nothing is known of the outcome: ask again, a retry changes nothing."))
        assert answer.json() == json.loads(told)


async def test_a_crowd_of_readers_becomes_one_request_a_second(proxy: Proxy, door: CampaignClient) -> None:
    answers = await asyncio.gather(*(door.get(f"/results?{n}") for n in range(100)))

    assert {answer.status_code for answer in answers} == {200}
    fetched = [answer for answer in answers if answer.headers["x-cache"] in ("MISS", "EXPIRED")]
    assert 1 <= len(fetched) <= 5  # the burst may straddle a second or two on a busy machine


async def test_a_reader_who_has_the_document_gets_304(door: CampaignClient) -> None:
    first = await door.get("/candidates/c01")

    again = await door.get("/candidates/c01", **{"if-none-match": first.headers["etag"]})

    assert again.status_code == 304


async def test_no_document_takes_a_query_which_the_cache_leaves_out_of_its_key(
    system: System, http: httpx.AsyncClient
) -> None:
    described = (await http.get(f"{system.results_url}/openapi.json")).json()
    routes = [route for path in described["paths"].values() for route in path.values()]

    assert routes
    assert [p["name"] for route in routes for p in route.get("parameters", []) if p["in"] == "query"] == []


async def test_the_access_log_names_no_client(proxy: Proxy, door: CampaignClient) -> None:
    voter = await door.voter()
    path = f"/v1/campaigns/{door.id}/likes"
    await voter.http.post(f"{voter.likes_url}?token={voter.token}", json={"candidates": ["c01"], "token": voter.token})

    async def logged() -> list[str]:
        return [line for line in proxy.log.read_text().splitlines() if f'"{path}"' in line]

    lines = await until(logged, what="the like is in the access log")
    assert json.loads(lines[-1])["status"] == 200
    assert "127.0.0.1" not in proxy.log.read_text()
    assert voter.token not in proxy.log.read_text()
