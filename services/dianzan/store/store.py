"""The Redis/Valkey edge except the like pipeline (like_link.py): what the store holds, by kind."""

from __future__ import annotations

from typing import Final

from redis.asyncio import Redis

from dianzan.domain.errors import StoreAway
from dianzan.domain.shard import Shard
from dianzan.process import logs
from dianzan.process.trouble import Trouble
from dianzan.store import durability, keys, library
from dianzan.store.agreements import Agreements
from dianzan.store.calls import StoreCalls
from dianzan.store.documents import Documents
from dianzan.store.errors import mapped
from dianzan.store.gates import Gates
from dianzan.store.marks import Marks
from dianzan.store.nodes import StoreNodes
from dianzan.store.rates import Rates
from dianzan.store.streams import Streams
from dianzan.store.tallies import Tallies

_log = logs.get(__name__)

_KEYS_PER_CLEAR: Final = 1_000


class Store:
    """Everything in the store. What it raises is said at each kind; what stands here raises StoreError."""

    def __init__(self, nodes: StoreNodes) -> None:
        self._nodes = nodes
        self._calls = StoreCalls(nodes)
        self._unmapped = Trouble(
            _log,
            "the cluster does not say who holds which shard; what was known last is used",
            over="the cluster says again who holds which shard",
        )
        self.agreements = Agreements(self._calls)
        self.gates = Gates(self._calls)
        self.documents = Documents(self._calls)
        self.marks = Marks(self._calls)
        self.streams = Streams(self._calls)
        self.tallies = Tallies(self._calls)
        self.rates = Rates(self._calls)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._nodes.aclose()

    async def find_nodes(self) -> None:
        """Learn where a cluster's shards are now, since a failover may have moved them; a failure is only logged."""
        try:
            await self._nodes.refresh()
        except StoreAway as error:
            self._unmapped.lasts(str(error))
        else:
            self._unmapped.is_over()

    async def load_library(self) -> list[str]:
        """Load the function library on every server that does not have this version or a newer one.

        Returns the addresses of those servers.
        """
        await self._nodes.known()
        return [node.address for node in self._nodes.all() if await library.load(node.client)]

    async def clocks_ms(self) -> list[int]:
        """Each server's clock in Unix milliseconds."""
        await self._nodes.known()
        with mapped():
            times = [await node.client.time() for node in self._nodes.all()]
        return [seconds * 1000 + micros // 1000 for seconds, micros in times]

    async def clock_ms(self, shard: Shard) -> int:
        """The clock of the server that holds a shard, in Unix milliseconds."""
        seconds, micros = await self._calls.one(keys.gate(shard), lambda client: client.time())
        return int(seconds * 1000 + micros // 1000)

    async def memory_share(self, shard: Shard) -> float:
        """Memory that the server of a shard uses, of its limit (0 to 1); 1 if it may not tell."""
        room: durability.Room = await self._calls.one(keys.gate(shard), lambda client: durability.room(client, []))
        return 1.0 if room.memory is None else room.memory

    async def clear(self, shard: Shard) -> None:
        """Remove what a shard may still hold except gate and stream: counts, people, all marks, and entries kept.

        Raises StoreError if the shard is open.
        """
        gate, stream = keys.gate(shard), keys.stream(shard)
        pattern = keys.tag(shard).replace("{", r"\{") + ":*"

        async def scan(client: Redis) -> list[str]:
            names = [key.decode() async for key in client.scan_iter(match=pattern, count=1_000)]
            return [name for name in names if name not in (gate, stream)]

        names: list[str] = await self._calls.one(gate, scan)
        for start in range(0, len(names), _KEYS_PER_CLEAR):
            await self._calls.call("clear_v1", [gate, *names[start : start + _KEYS_PER_CLEAR]])
