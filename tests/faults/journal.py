"""The fsynced journal of a run: every attempt before it is sent, every outcome as it was heard."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Heard(StrEnum):
    """What a voter was told of an attempt."""

    ok = "ok"  # 200: every like has a status of its own
    fail = "fail"  # refused: certainly nothing was counted
    unknown = "unknown"  # 503 "ask again", or no answer


@dataclass(slots=True)
class Attempt:
    """One like request. `results` is code -> (status, receipt); times are seconds of one monotonic clock."""

    number: int
    voter: bytes
    codes: tuple[str, ...]
    api: int
    asked_s: float
    sent_s: float = 0.0  # when it was on the disk, just before its bytes left
    heard_s: float = 0.0
    heard: Heard | None = None
    code: str = ""  # the problem's code where refused
    results: dict[str, tuple[str, str | None]] = field(default_factory=dict)


class Journal:
    """Attempts in order. `ask` returns once the attempt is on the disk, so that nothing is sent that is not known."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._lines: list[bytes] = []
        self._synced: asyncio.Future[None] | None = None
        self._syncing: asyncio.Task[None] | None = None
        self.attempts: list[Attempt] = []

    async def ask(self, voter: bytes, codes: Sequence[str], api: int) -> Attempt:
        """Note an attempt durably, then return it."""
        attempt = Attempt(len(self.attempts), voter, tuple(codes), api, time.monotonic())
        self.attempts.append(attempt)
        self._note("ask", attempt.number, voter.hex(), codes, api)
        await self._durable()
        attempt.sent_s = time.monotonic()
        return attempt

    def hear(
        self,
        attempt: Attempt,
        heard: Heard,
        *,
        code: str = "",
        results: Mapping[str, tuple[str, str | None]] | None = None,
    ) -> None:
        """Note the outcome of an attempt; it is on the disk with the next attempt."""
        attempt.heard, attempt.code, attempt.heard_s = heard, code, time.monotonic()
        attempt.results = dict(results or {})
        self._note("heard", attempt.number, heard, code, attempt.results)

    def close(self) -> None:
        """Write what is left."""
        self._write()
        self._file.close()

    def _note(self, *event: object) -> None:
        self._lines.append(json.dumps(event).encode() + b"\n")

    async def _durable(self) -> None:
        # One fsync for all attempts that wait, as many may wait as there are voters.
        if self._synced is None:
            self._synced = asyncio.get_running_loop().create_future()
        waiting = self._synced
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync())
        await waiting

    async def _sync(self) -> None:
        while self._synced is not None:
            synced, self._synced = self._synced, None
            self._write()
            await asyncio.to_thread(os.fsync, self._file.fileno())
            synced.set_result(None)

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        self._file.write(b"".join(lines))
