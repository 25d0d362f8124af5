"""The store's own counters of likes, and its estimates of people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from redis.asyncio.client import Pipeline

from dianzan.domain.shard import Shard
from dianzan.store import keys
from dianzan.store.calls import StoreCalls


class Tallies:
    """Raises StoreAway if the store does not answer, StoreFull if an estimate finds no memory."""

    def __init__(self, calls: StoreCalls) -> None:
        self._calls = calls

    async def total(self, shards: Sequence[Shard]) -> dict[int, int]:
        """Likes per candidate index, summed over the shards."""
        totals: Counter[int] = Counter()
        for counters in (await self.by_shard(shards)).values():
            totals.update(counters)
        return dict(totals)

    async def by_shard(self, shards: Sequence[Shard]) -> dict[Shard, dict[int, int]]:
        """Shard -> candidate index -> likes."""
        counters = await self._calls.each(list(map(keys.counts, shards)), lambda pipeline, name: pipeline.hgetall(name))
        return {
            shard: {int(candidate): int(likes) for candidate, likes in of_shard.items()}
            for shard, of_shard in zip(shards, counters, strict=True)
        }

    async def write(self, shard: Shard, likes: Mapping[int, int]) -> None:
        """Set a shard's counters."""
        if likes:
            named = {str(candidate): str(count) for candidate, count in likes.items()}
            key = keys.counts(shard)
            await self._calls.one(key, lambda client: client.hset(key, mapping=cast("Any", named)))

    async def people(self, shard: Shard, voters: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        """Add voters per candidate index to the shard's HyperLogLogs and return their estimates (error 0.81%)."""

        def queue(pipeline: Pipeline) -> None:
            for candidate, hashes in voters.items():
                pipeline.pfadd(keys.people(shard, candidate), *hashes)
                pipeline.pfcount(keys.people(shard, candidate))

        replies = await self._calls.pipeline(keys.people(shard, 0), queue, quiet=True)
        return dict(zip(voters, replies[1::2], strict=True))
