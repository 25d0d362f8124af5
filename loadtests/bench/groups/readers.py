"""Figure 11: how many readers of the event stream one core serves while the results change every second."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import uvloop

from dianzan.local.folder import HOST
from loadtests.bench.bed import Bed, published, serving
from loadtests.bench.cores import allow_open_files, cpu_seconds
from loadtests.bench.figures import Measured
from loadtests.bench.open_loop import percentile, play
from loadtests.bench.options import Scale
from loadtests.bench.requests import like_requests

CAMPAIGN = "readers"
UPDATES = 8  # of one step, one a second
LATE_S_MAX = 1.0
FILES_KEPT = 200  # of the process's limit, for everything that is no reader
OPEN_AT_ONCE = 200
OPENED_S_MAX = 60.0
_EVENT_ID = re.compile(rb"(?:^|\n)id: ?([^\r\n]+)")


@dataclass
class Arrivals:
    """When each update reached each reader; `first` and `count` by the event's id."""

    first: dict[bytes, float] = field(default_factory=dict)
    count: dict[bytes, int] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)
    open: int = 0
    watching: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def reach(self, readers: int) -> None:
        """Wait until so many readers have had their first event."""
        while self.open < readers:
            self.reached.clear()
            await self.reached.wait()

    def arrived(self, event: bytes) -> None:
        """One reader got one event; the first one before the load is no update."""
        now = time.perf_counter()
        if not self.watching:
            self.open += 1
            self.reached.set()
            return
        self.late.append(now - self.first.setdefault(event, now))
        self.count[event] = self.count.get(event, 0) + 1


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """More readers step by step, until an update comes late or not at all."""
    document, steps, most = published(bed, CAMPAIGN), [], 0
    readers_max = allow_open_files() - FILES_KEPT
    with (
        serving(bed, "vote_api", port_name="DIANZAN_VOTE_PORT", core="stores") as vote,
        serving(bed, "tally_worker", port_name="DIANZAN_WORKER_PORT", core="stores"),
        serving(bed, "results_api", port_name="DIANZAN_RESULTS_PORT") as results,
    ):
        for asked in scale.readers:
            readers, before = min(asked, readers_max), cpu_seconds(results.pid)
            requests = like_requests(document, UPDATES)[0]
            found = uvloop.run(_step(vote.port, results.port, readers, requests))
            found["server_cpu_s"] = round(cpu_seconds(results.pid) - before, 2)
            steps.append(found)
            if not found["held"]:
                break
            most = readers
    note = f"as many as the limit of open files allows, {readers_max:,}" if most == readers_max else ""
    return [Measured("11", [float(most)], note, {"steps": steps})]


async def _step(vote_port: int, results_port: int, readers: int, requests: Sequence[bytes]) -> dict[str, Any]:
    arrivals = Arrivals()
    try:
        async with asyncio.timeout(OPENED_S_MAX):
            opened = await _open(results_port, readers, arrivals)
    except (TimeoutError, OSError):
        return {"readers": readers, "opened": arrivals.open, "held": False}
    arrivals.watching = True
    await play(vote_port, requests, rate=1, connections=1)
    await asyncio.sleep(1.0 + 2 * LATE_S_MAX)  # the last update may take as long to be shown, and then to arrive
    for transport in opened:
        transport.abort()
    missed = sum(readers - got for got in arrivals.count.values())
    late = sorted(arrivals.late)
    p99 = percentile(late, 99) if late else None
    held = p99 is not None and p99 <= LATE_S_MAX and not missed and len(arrivals.first) >= len(requests) - 1
    return {"readers": readers, "updates": len(arrivals.first), "missed": missed, "p99_s": p99, "held": held} | (
        {"max_s": late[-1]} if late else {}
    )


async def _open(port: int, readers: int, arrivals: Arrivals) -> list[asyncio.Transport]:
    """Connect all readers and wait until each has had its first event."""
    loop = asyncio.get_running_loop()
    opened: list[asyncio.Transport] = []
    while len(opened) < readers:
        group = min(OPEN_AT_ONCE, readers - len(opened))
        made = [loop.create_connection(lambda: _Reader(arrivals), HOST, port) for _ in range(group)]
        opened += [transport for transport, _reader in await asyncio.gather(*made)]
        await arrivals.reach(len(opened))
    return opened


class _Reader(asyncio.Protocol):
    """One reader of the stream; tells an event by its id."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals, self._received, self._last = arrivals, b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        path = f"/v1/campaigns/{CAMPAIGN}/results/stream"
        transport.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: text/event-stream\r\n\r\n".encode())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        frames = (self._received + data).split(b"\n\n")
        self._received = frames.pop()
        for frame in frames:
            found = _EVENT_ID.search(frame)
            if found and found[1] != self._last:
                self._last = found[1]
                self._arrivals.arrived(found[1])
