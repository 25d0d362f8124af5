"""The processes of a system: services that start with other settings, and what may happen to a process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from loadtests.system import own_environment, start_service

from dianzan.local.server import Server
from tests.faults.http import get
from tests.support.wait import until

STARTS_S_MAX = 30.0


@dataclass
class Process:
    """One service: it may be killed, stopped for a while, and started again on its port with other settings."""

    module: str
    port: int
    environment: Mapping[str, str]
    log: Path
    running: subprocess.Popen[bytes] | None = None

    def start(self, *, module: str | None = None, **settings: str) -> None:
        """Start it; `module` stands for the service in a control, `settings` are further environment."""
        self.running = start_service(module or self.module, self.log, own_environment({**self.environment, **settings}))

    @property
    def pid(self) -> int:
        assert self.running is not None
        return self.running.pid

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.running is not None:
            self.running.kill()
            self.running.wait()

    async def ended(self, *, within_s: float = 30.0) -> int:
        """Wait for its end; the exit code, negative for a signal."""

        async def dead() -> bool:
            return self.running is None or self.running.poll() is not None

        await until(dead, within_s=within_s, what=f"{self.module} ends")
        return self.running.returncode if self.running is not None else 0

    async def answers(self, path: str = "/healthz", *, within_s: float = STARTS_S_MAX) -> None:
        """Wait until it answers 200."""

        async def served() -> bool:
            try:
                return (await get(self.port, path))[0] == HTTPStatus.OK
            except (OSError, EOFError):
                assert self.running is None or self.running.poll() is None, self.log.read_text()[-2_000:]
                return False

        await until(served, within_s=within_s, what=f"{self.module} answers {path}")


async def restart(*processes: Process, module: str | None = None, **settings: str) -> None:
    """Kill services, start them again, as a control of this name or with other settings, and wait for all."""
    for process in processes:
        process.kill()
        process.start(module=f"tests.faults.controls.{module}" if module else None, **settings)
    for process in processes:
        await process.answers("/readyz")


async def crash(server: Server) -> None:
    """Kill a server -9 and start it again at once."""
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


@contextmanager
def stopped(*processes: Process | Server) -> Iterator[None]:
    """They stand still (SIGSTOP) for the length of the block."""
    pids = [process.pid for process in processes]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
