"""What a figure is measured on: stores from wheels in a folder of their own, a campaign, servers pinned to cores."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import redis

from dianzan.cli.stores import Stores
from dianzan.domain.campaign import Document, Rules
from dianzan.domain.shard import Shard
from dianzan.local.stores import StoreAddresses
from dianzan.roster.candidates import Candidate
from dianzan.store import keys
from loadtests import stores
from loadtests.bench.cores import Cores, on_core
from loadtests.bench.errors import BenchError
from loadtests.stores import Server

CAMPAIGN = "bench"
CANDIDATES = 64
QUOTA = 10
SETTLE_S_MAX = 60.0

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Bed:
    """Running stores, `valkey` a client of the one; `cores` says who runs where, None: nothing is pinned."""

    folder: Path
    cores: Cores | None
    addresses: StoreAddresses
    valkey: redis.Redis
    valkey_pid: int

    def run(self, work: Callable[[Stores], Awaitable[Answer]]) -> Answer:
        """Do something with both stores through the project's own edges."""
        return stores.work(self.addresses, work)

    def clear(self, document: Document) -> None:
        """Forget every like of a campaign, but keep its gates open; then bring the store to rest."""
        for shard in range(document.rules.shards):
            found = self.valkey.scan_iter(match=keys.tag(Shard(document.rules.id, shard)) + ":*", count=10_000)
            self._unlink([key for key in found if key != keys.gate(Shard(document.rules.id, shard))])
        self.settle()

    def drop(self, pattern: str) -> None:
        """Remove every key of a pattern; then bring the store to rest."""
        self._unlink(list(self.valkey.scan_iter(match=pattern, count=10_000)))
        self.settle()

    def drain(self, document: Document) -> None:
        """Remove the streams alone, as if a worker had taken them."""
        shards = range(document.rules.shards)
        self._unlink([keys.stream(Shard(document.rules.id, shard)) for shard in shards])
        self._until_idle()

    def settle(self) -> None:
        """Free what was removed and rewrite the AOF now, so that neither happens during a measurement."""
        self._until_idle()
        self.valkey.bgrewriteaof()
        self._until_idle()

    def counted(self, document: Document) -> int:
        """Likes by the store's own counters, once they stand still: what was on its way has been counted."""
        return still(lambda: self._counted(document))

    def _counted(self, document: Document) -> int:
        shards = range(document.rules.shards)
        found = [self.valkey.hvals(keys.counts(Shard(document.rules.id, shard))) for shard in shards]
        return sum(int(likes) for shard in found for likes in shard)

    def _unlink(self, names: list[str]) -> None:
        for start in range(0, len(names), 1_000):
            self.valkey.unlink(*names[start : start + 1_000])

    def _until_idle(self) -> None:
        deadline = time.monotonic() + SETTLE_S_MAX
        while any(
            self.valkey.info()[name]
            for name in ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "lazyfree_pending_objects")
        ):
            if time.monotonic() > deadline:
                raise BenchError(f"The store did not come to rest within {SETTLE_S_MAX:g} s.")
            time.sleep(0.02)


def still(look: Callable[[], int]) -> int:
    """A number once it is the same twice, 0.3 s apart: time enough for a server to answer what is on its way."""
    deadline = time.monotonic() + SETTLE_S_MAX
    before = look()
    while True:
        time.sleep(0.3)
        now = look()
        if now == before:
            return now
        if time.monotonic() > deadline:
            raise BenchError("A counter went on growing after the load had ended.")
        before = now


@contextmanager
def opened(folder: Path, cores: Cores | None) -> Iterator[Bed]:
    """Start both stores on their core and an empty folder; the block runs on the load's."""
    with ExitStack() as stack:
        with on_core(cores, "stores"):
            own = stack.enter_context(stores.opened(folder))
        url = own.addresses.redis_url
        client = stack.enter_context(redis.Redis.from_url(url, decode_responses=True, socket_timeout=60))
        stack.enter_context(on_core(cores, "load"))
        yield Bed(folder, cores, own.addresses, client, own.embedded.valkey.pid)


def published(bed: Bed, campaign: str, *, voters: int = 1_000_000, shards: int = 8) -> Document:
    """A campaign of 64 candidates and 10 likes, sized for so many voters; one window, so no midnight falls into it."""
    now = datetime.now(UTC)
    rules = Rules(
        id=campaign,
        title="测量",
        opens=now - timedelta(hours=1),
        closes=now + timedelta(days=1),
        window="campaign",
        likes_per_window=QUOTA,
        expected_voters=voters,
        shards=shards,
    )
    roster = [
        Candidate(f"c{n:02}", f"候选人{n}", "person", "东城区", "社区服务", "", "", "")
        for n in range(1, CANDIDATES + 1)
    ]

    async def publish(stores: Stores) -> Document:
        await stores.lifecycle.create(rules)
        await stores.lifecycle.import_candidates(campaign, roster)
        return await stores.lifecycle.publish(campaign)

    return bed.run(publish)


@contextmanager
def serving(bed: Bed, module: str, *, port_name: str, core: str = "server", wait: bool = True) -> Iterator[Server]:
    """Run a module as a process on the core named, and wait until it is ready; stop it in the end."""
    settings = {"DIANZAN_STORE_FOLDER": str(bed.folder), "DIANZAN_LOG_LEVEL": "warning"}
    folder = Path(tempfile.mkdtemp(prefix=module, dir=bed.folder))
    with ExitStack() as stack:
        with on_core(bed.cores, core):
            server = stores.serving(folder, module, port_name, bed.addresses, wait=wait, **settings)
            running = stack.enter_context(server)
        yield running
