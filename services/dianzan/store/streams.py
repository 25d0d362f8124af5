"""The stream of each shard: likes on their way to the ledger, and beside it those kept after they were committed."""

from __future__ import annotations

from collections.abc import Sequence

from dianzan.domain.limits import KEPT_ENTRIES_MAX, KEPT_LIFE_S
from dianzan.domain.shard import Shard
from dianzan.store import keys
from dianzan.store.calls import StoreCalls

RawEntry = tuple[bytes, dict[bytes, bytes]]  # stream entry id, its fields


class Streams:
    """Raises StoreAway if the store does not answer, StoreError if it refuses."""

    def __init__(self, calls: StoreCalls) -> None:
        self._calls = calls

    async def read(self, shard: Shard, count: int, *, after: bytes | None = None) -> list[RawEntry]:
        """The oldest entries of a shard's stream, or the oldest after an entry id, at most `count`.

        With a replica: entries that it holds too, or StoreError. What the ledger learnt of a like that a failover
        then undid, the store would never know again.
        """
        return await self._oldest(keys.stream(shard), count, after)

    async def read_kept(self, shard: Shard, count: int, *, after: bytes | None = None) -> list[RawEntry]:
        """As `read`, of the entries kept; their ids are other ones than in the stream."""
        return await self._oldest(keys.kept(shard), count, after)

    async def with_counters(self, shard: Shard, count: int) -> tuple[dict[int, int], list[RawEntry]]:
        """The shard's counters per candidate index and at most `count` of its oldest entries, of one instant.

        With a replica: what it holds too, or StoreError.
        """
        counts, stream = keys.counts(shard), keys.stream(shard)
        counters, entries = await self._calls.held(
            stream, lambda asked: asked.fcall_ro("view_v1", 2, counts, stream, count)
        )
        likes = {int(candidate): int(likes) for candidate, likes in _pairs(counters).items()}
        return likes, [(entry_id, _pairs(fields)) for entry_id, fields in entries]

    async def waiting(self, shard: Shard) -> int:
        """Entries of the shard's stream. With a replica: as it holds them too, or StoreError."""
        stream = keys.stream(shard)
        return int(await self._calls.held(stream, lambda asked: asked.xlen(stream)))

    async def backlog(self, shards: Sequence[Shard]) -> list[int | None]:
        """Entries waiting in each shard's stream, None if its server does not answer.

        Raises StoreAway if none answers.
        """
        names = list(map(keys.stream, shards))
        return await self._calls.each(names, lambda pipeline, name: pipeline.xlen(name), partly=True)

    async def remove(self, shard: Shard, committed: Sequence[tuple[bytes, bytes]]) -> int:
        """Remove entries by (entry id, batch id); an entry that now carries another batch id stays."""
        pairs = [part for pair in committed for part in pair]
        return int(await self._calls.call("remove_v1", [keys.stream(shard)], *pairs))

    async def keep(self, shard: Shard, committed: Sequence[tuple[bytes, bytes]]) -> int:
        """Remove entries as `remove` does, and keep them in a stream beside, until `drop_kept`.

        Raises StoreFull, with nothing done.
        """
        names = [keys.stream(shard), keys.kept(shard)]
        pairs = [part for pair in committed for part in pair]
        return int(await self._calls.call("keep_v1", names, str(KEPT_ENTRIES_MAX), str(KEPT_LIFE_S), *pairs))

    async def drop_kept(self, shard: Shard, before_ms: int) -> int:
        """Drop entries kept before an instant of the store's clock; returns how many went."""
        kept = keys.kept(shard)
        dropped = await self._calls.one(
            kept, lambda client: client.xtrim(kept, minid=str(before_ms), approximate=False)
        )
        return int(dropped)

    async def _oldest(self, stream: str, count: int, after: bytes | None) -> list[RawEntry]:
        start = "-" if after is None else f"({after.decode()}"
        entries: list[RawEntry] = await self._calls.held(
            stream, lambda asked: asked.xrange(stream, min=start, count=count)
        )
        return entries


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
