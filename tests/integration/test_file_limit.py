"""A client that opens more connections than a vote API has files shuts nobody out."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path

import httpx
from loadtests.system import own_environment

from tests.support.client import CampaignClient
from tests.support.system import System, free_port
from tests.support.wait import until
from tests.support.wire import wired

FILES = 600


def _with_few_files(environment: dict[str, str], log_path: Path) -> subprocess.Popen[bytes]:
    limited = ["bash", "-c", f"ulimit -n {FILES}; exec {sys.executable} -m vote_api"]
    with log_path.open("ab") as log:
        return subprocess.Popen(limited, env=environment, stdout=log, stderr=log)


async def test_connections_that_say_nothing_give_way_to_honest_ones(
    system: System, http: httpx.AsyncClient, campaign: CampaignClient, tmp_path: Path
) -> None:
    port, voter = free_port(), await campaign.voter()
    settings = {"DIANZAN_REDIS_URL": system.stores.redis_url, "DIANZAN_VOTE_PORT": str(port), "DIANZAN_DRAIN_S": "0"}
    likes = f"http://127.0.0.1:{port}/v1/campaigns/{campaign.id}/likes"
    headers = {"authorization": f"Bearer {voter.token}", "connection": "close"}
    process = _with_few_files(own_environment(settings), tmp_path / "log")

    async def ready() -> bool:
        try:
            return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == HTTPStatus.OK
        except httpx.TransportError:
            return False

    try:
        await until(ready, within_s=20, what="the vote API is ready")
        async with AsyncExitStack() as opened:
            for number in range(2 * FILES):
                await opened.enter_async_context(wired(port))
                if number % 100 == 99:
                    answer = await http.post(likes, json={"candidates": ["c01"]}, headers=headers)
                    assert answer.status_code == HTTPStatus.OK, (number, answer.text)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
