"""Vote APIs are replaced one after another behind the shipped nginx, under load, and nobody is refused."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from loadtests.system import own_environment, start_service

from tests.integration.test_proxy import NGINX, running_proxy, until_answers
from tests.support.client import CampaignClient, VoterClient
from tests.support.system import System, free_port
from tests.support.wait import until
from tests.support.wire import wired

VOTERS = 48
ROUNDS = 2
DRAIN_S = 3  # longer than the 2 s for which nginx leaves alone one that has just come back

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt install nginx-light)")


class VoteApi:
    """A vote API on a port of its own that can be replaced there."""

    def __init__(self, system: System, folder: Path) -> None:
        self.port, self.log = free_port(), folder / "vote_api.log"
        self._environment = own_environment(
            {
                "DIANZAN_REDIS_URL": system.stores.redis_url,
                "DIANZAN_VOTE_PORT": str(self.port),
                "DIANZAN_DRAIN_S": str(DRAIN_S),
            }
        )
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, http: httpx.AsyncClient) -> None:
        self.process = start_service("vote_api", self.log, self._environment)

        async def ready() -> bool:
            return await self.readiness(http) == HTTPStatus.OK

        await until(ready, within_s=20, what="the vote API is ready")

    async def readiness(self, http: httpx.AsyncClient) -> int | None:
        try:
            return (await http.get(f"http://127.0.0.1:{self.port}/readyz")).status_code
        except httpx.TransportError:
            return None

    def ask_to_end(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> None:
        assert self.process is not None
        await asyncio.to_thread(self.process.wait, 30)


@asynccontextmanager
async def two_apis(system: System, http: httpx.AsyncClient, folder: Path) -> AsyncIterator[tuple[VoteApi, VoteApi]]:
    apis = VoteApi(system, folder), VoteApi(system, folder)
    try:
        await asyncio.gather(*(api.start(http) for api in apis))
        yield apis
    finally:
        for api in apis:
            api.ask_to_end()
            await api.ended()


async def _like_on(voter: VoterClient, told: Counter[int | str], over: asyncio.Event) -> None:
    while not over.is_set():
        try:
            answer = await voter.ask("c01")
        except httpx.TransportError as error:
            told[repr(error)] += 1
        else:
            told[answer.status_code] += 1


async def test_a_rolling_restart_under_load_refuses_nobody(
    system: System, http: httpx.AsyncClient, campaign: CampaignClient, tmp_path: Path
) -> None:
    async with two_apis(system, http, tmp_path) as apis:
        with running_proxy(apis[0].port, system.results_port, apis[1].port) as proxy:
            await until_answers(proxy, http)
            door = proxy.before(campaign)
            voters = [await door.voter() for _ in range(VOTERS)]
            told: Counter[int | str] = Counter()
            over = asyncio.Event()
            async with asyncio.TaskGroup() as load:
                for voter in voters:
                    load.create_task(_like_on(voter, told, over))
                for api in apis * ROUNDS:
                    api.ask_to_end()
                    await api.ended()
                    await api.start(http)
                over.set()
            failures = [line for line in proxy.log.read_text().splitlines() if '"status":50' in line][:5]

    assert set(told) == {200}, (told, failures)
    assert told[200] > 100 * ROUNDS


async def test_a_process_asked_to_end_is_not_ready_but_answers_and_ends_its_connections(
    system: System, http: httpx.AsyncClient, campaign: CampaignClient, tmp_path: Path
) -> None:
    async with two_apis(system, http, tmp_path) as (api, _other), wired(api.port) as kept, wired(api.port) as silent:
        await kept.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert "connection" not in (await kept.answer()).headers
        api.ask_to_end()

        async def not_ready() -> bool:
            return await api.readiness(http) == HTTPStatus.SERVICE_UNAVAILABLE

        await until(not_ready, what="it is not ready")
        for wire in (kept, silent):
            await wire.send(f"GET /v1/campaigns/{campaign.id}/likes/mine HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            answer = await wire.answer()
            assert (answer.status, answer.headers["connection"]) == (401, "close")
            assert await wire.ended()
        like = f"POST /v1/campaigns/{campaign.id}/likes HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
        async with wired(api.port) as late:
            await late.send(like.encode())
            answer = await late.answer()
            assert (answer.status, answer.headers["connection"]) == (415, "close")
        await api.ended()
        await api.start(http)
