"""Marks: what each voter liked in a window, by which the store knows a like it has counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, cast

from redis.asyncio.client import Pipeline

from dianzan.domain import wire
from dianzan.domain.campaign import Document, Rules
from dianzan.domain.errors import StoreError, StoreUnavailable
from dianzan.domain.shard import Shard
from dianzan.store import keys
from dianzan.store.calls import StoreCalls

_KEYS_PER_UNLINK: Final = 1_000


class Marks:
    """Raises StoreAway if the store does not answer; `liked`, for which a voter waits, raises StoreUnavailable."""

    def __init__(self, calls: StoreCalls) -> None:
        self._calls = calls

    async def liked(self, document: Document, window_day: int, voter: bytes) -> tuple[int, ...]:
        """Candidate indexes the voter liked in the window, in order. Raises StoreUnavailable."""
        shard = document.rules.every_shard[wire.shard_of(voter, document.rules.shards)]
        try:
            return (await self.read(document, shard, window_day, [voter]))[voter]
        except StoreError as error:
            raise StoreUnavailable(f"The store did not answer ({error.reason}); ask again.") from error

    async def read(
        self, document: Document, shard: Shard, window_day: int, voters: Collection[bytes]
    ) -> dict[bytes, tuple[int, ...]]:
        """What each of a shard's voters liked in a window, in one round trip."""

        def queue(pipeline: Pipeline) -> None:
            for voter in voters:
                pipeline.hget(_key(document, shard, window_day, voter), cast("str", wire.mark_field(voter)))

        marks = await self._calls.pipeline(keys.gate(shard), queue)
        return {v: wire.unpack_indexes(mark or b"", document.width) for v, mark in zip(voters, marks, strict=True)}

    async def write(
        self, document: Document, shard: Shard, window_day: int, voters: Mapping[bytes, Sequence[int]]
    ) -> None:
        """Set what each voter of a shard liked in a window."""

        def queue(pipeline: Pipeline) -> None:
            for voter, candidates in voters.items():
                mark = cast("str", wire.pack_indexes(candidates, document.width))
                pipeline.hset(_key(document, shard, window_day, voter), cast("str", wire.mark_field(voter)), mark)

        await self._calls.pipeline(keys.gate(shard), queue)

    async def bucket_fills(self, window_day: int, places: Sequence[tuple[Shard, int]]) -> list[int]:
        """Voters in each of the given (shard, bucket) places of a window."""
        names = [keys.marks(shard, window_day, bucket) for shard, bucket in places]
        return await self._calls.each(names, lambda pipeline, name: pipeline.hlen(name))

    async def drop(self, rules: Rules, window_day: int) -> int:
        """Remove the marks of one window; returns how many hashes went."""
        removed = 0
        for shard in rules.every_shard:
            for start in range(0, rules.buckets, _KEYS_PER_UNLINK):
                stop = min(start + _KEYS_PER_UNLINK, rules.buckets)
                names = [keys.marks(shard, window_day, bucket) for bucket in range(start, stop)]
                removed += int(await self._calls.one(names[0], lambda client, names=names: client.unlink(*names)))  # type: ignore[misc]
        return removed


def _key(document: Document, shard: Shard, window_day: int, voter: bytes) -> str:
    return keys.marks(shard, window_day, wire.bucket_of(voter, document.rules.buckets))
