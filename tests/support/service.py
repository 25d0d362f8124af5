"""One service started by itself, beside those of `dianzan up`: with other settings, or meant to be killed."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx
from loadtests.system import free_port, own_environment, start_service

from dianzan.local.stores import StoreAddresses
from tests.support.wait import until

_PORT_SETTINGS = {
    "vote_api": "DIANZAN_VOTE_PORT",
    "tally_worker": "DIANZAN_WORKER_PORT",
    "results_api": "DIANZAN_RESULTS_PORT",
}


@dataclass(frozen=True)
class Service:
    """A running service: its port, its process, and the file it logs to."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def running(module: str, stores: StoreAddresses, folder: Path, **settings: str) -> AsyncIterator[Service]:
    """Run one service on these stores until the block ends; it serves, but need not be ready, when the block begins."""
    port, log = free_port(), folder / f"{module}-{free_port()}.log"
    urls = {"DIANZAN_REDIS_URL": stores.redis_url, "DIANZAN_DATABASE_URL": stores.database_url}
    environment = own_environment({**urls, _PORT_SETTINGS[module]: str(port), **settings})
    service = Service(port, start_service(module, log, environment), log)
    try:
        await _until_served(service)
        yield service
    finally:
        service.process.terminate()
        service.process.wait(30)


async def _until_served(service: Service) -> None:
    async with httpx.AsyncClient() as http:

        async def served() -> bool:
            assert service.process.poll() is None, service.log.read_text()
            try:
                return (await http.get(f"{service.url}/healthz")).status_code == HTTPStatus.OK
            except httpx.TransportError:
                return False

        await until(served, within_s=20, what=f"{service.url} serves")
