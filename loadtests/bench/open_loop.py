"""Load at a fixed rate: every request has a planned instant, and waits count from it, however late it is sent.

It runs in this process, on the load's core; what it adds itself is measured by the same load on the ASGI hello.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from dianzan.local.folder import HOST
from loadtests.bench.errors import BenchError

TICK_S = 0.001  # uvloop's timers count whole milliseconds: a request is sent up to one late, which counts against us
LAST_ANSWER_S_MAX = 20.0
_LENGTH = b"content-length: "


@dataclass
class Answers:
    """What became of a plan: when each request was answered, and how much of the core the generator took."""

    rate: float
    started: float = 0.0
    answered: list[float] = field(default_factory=list)  # perf_counter by number of the request; 0 until answered
    busy: float = 0.0

    def waits(self, skip_s: float = 0.0) -> list[float]:
        """Seconds from each planned instant to its answer, sorted; those planned in the first `skip_s` left out."""
        first = round(skip_s * self.rate)
        planned = enumerate(self.answered[first:], start=first)
        return sorted(at - self.started - number / self.rate for number, at in planned)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that so many per cent do not exceed, of values in order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


async def play(port: int, requests: Sequence[bytes], *, rate: float, connections: int) -> Answers:
    """Send the requests at `rate` a second over kept connections. Raises BenchError if an answer is not 200."""
    plan = _Plan(requests, rate)
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: Connection(plan), HOST, port) for _ in range(connections)]
    try:
        with _no_collection():
            plan.begin([connection for _transport, connection in opened])
            await asyncio.wait_for(plan.done, len(requests) / rate + LAST_ANSWER_S_MAX)
            plan.answers.busy = (time.process_time() - plan.cpu_before) / (time.perf_counter() - plan.answers.started)
    except TimeoutError as error:
        raise BenchError(f"{plan.missing:,} of {len(requests):,} requests were never answered.") from error
    finally:
        for transport, _connection in opened:
            transport.abort()
        await asyncio.sleep(0)  # so that they are closed when this returns
    return plan.answers


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection of 100,000 prepared requests would stop the generator, and count as the server's slowness."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Plan:
    """The requests still to be sent, those that are due and find no idle connection, and the answers."""

    def __init__(self, requests: Sequence[bytes], rate: float) -> None:
        self.answers = Answers(rate, answered=[0.0] * len(requests))
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.missing = len(requests)
        self.cpu_before = time.process_time()
        self._requests, self._next = requests, 0
        self._idle: deque[Connection] = deque()

    def begin(self, connections: Sequence[Connection]) -> None:
        """The first request is planned for now."""
        self._idle.extend(connections)
        self.answers.started = time.perf_counter()
        self._tick()

    def answered(self, number: int, connection: Connection) -> None:
        """One request got its answer; its connection takes the next that is due."""
        self.answers.answered[number] = time.perf_counter()
        self._idle.append(connection)
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, text: str) -> None:
        """End the run."""
        if not self.done.done():
            self.done.set_exception(BenchError(text))

    def _tick(self) -> None:
        due = int((time.perf_counter() - self.answers.started) * self.answers.rate) + 1
        while self._idle and self._next < min(due, len(self._requests)):
            self._idle.popleft().send(self._next, self._requests[self._next])
            self._next += 1
        if self._next < len(self._requests) and not self.done.done():
            asyncio.get_running_loop().call_later(TICK_S, self._tick)


class Load(Protocol):
    """Whom a connection tells what became of its request."""

    def answered(self, number: int, connection: Connection) -> None:
        """The request of this number was answered with 200."""

    def fail(self, text: str) -> None:
        """It was not, which ends the run."""


class Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self, plan: Load) -> None:
        self._plan, self._number, self._received = plan, -1, b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._plan.fail(f"The server closed a connection: {exc}.")

    def send(self, number: int, request: bytes) -> None:
        """Send a request."""
        self._number = number
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._received.lower().find(_LENGTH, 0, end) + len(_LENGTH)
        if len(self._received) < end + 4 + int(self._received[at : self._received.find(b"\r\n", at)]):
            return
        received, self._received = self._received, b""
        if not received.startswith(b"HTTP/1.1 200"):
            self._plan.fail(f"A request was answered {received[:500].decode(errors='replace')}")
            return
        self._plan.answered(self._number, self)
