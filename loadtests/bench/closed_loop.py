"""Load as fast as it is answered if there is no `wrk`: a generator in this process.

It can be the limit before the server is: the CPU time it took is kept beside each round, as `wrk`'s is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import uvloop

from dianzan.local.folder import HOST
from loadtests.bench.errors import BenchError
from loadtests.bench.open_loop import LAST_ANSWER_S_MAX, Connection


def play(port: int, request: Callable[[int], bytes], *, seconds: float, connections: int) -> tuple[list[float], float]:
    """Each connection sends its next request when its last is answered; `request` makes one by number.

    Returns the seconds that each answer took, sorted, and those of the whole. Raises BenchError if one is not 200.
    """
    return uvloop.run(_play(port, request, seconds, connections))


async def _play(
    port: int, request: Callable[[int], bytes], seconds: float, connections: int
) -> tuple[list[float], float]:
    loop, load = asyncio.get_running_loop(), _AsAnswered(request)
    opened = [await loop.create_connection(lambda: Connection(load), HOST, port) for _ in range(connections)]
    started = time.perf_counter()
    load.begin([connection for _transport, connection in opened], until=started + seconds)
    try:
        await asyncio.wait_for(load.done, seconds + LAST_ANSWER_S_MAX)
    except TimeoutError as error:
        raise BenchError(f"A request had no answer {LAST_ANSWER_S_MAX:g} s after the load ended.") from error
    finally:
        for transport, _connection in opened:
            transport.abort()
        await asyncio.sleep(0)  # so that they are closed when this returns
    return sorted(load.waits), time.perf_counter() - started


class _AsAnswered:
    """What connections send next, and how long each answer took."""

    def __init__(self, request: Callable[[int], bytes]) -> None:
        self.waits: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request, self._sent, self._until, self._busy = request, list[float](), 0.0, 0

    def begin(self, connections: Sequence[Connection], *, until: float) -> None:
        """Every connection sends its first request."""
        self._until, self._busy = until, len(connections)
        for connection in connections:
            self._send(connection)

    def answered(self, number: int, connection: Connection) -> None:
        """Send the next on the same connection, or end it."""
        now = time.perf_counter()
        self.waits.append(now - self._sent[number])
        if now < self._until:
            self._send(connection)
            return
        self._busy -= 1
        if not self._busy and not self.done.done():
            self.done.set_result(None)

    def fail(self, text: str) -> None:
        """End the run."""
        if not self.done.done():
            self.done.set_exception(BenchError(text))

    def _send(self, connection: Connection) -> None:
        number = len(self._sent)
        self._sent.append(time.perf_counter())
        connection.send(number, self._request(number))
