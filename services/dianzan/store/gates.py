"""Gates: whether a shard takes likes, and by which rules."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from dianzan.domain.campaign import Document
from dianzan.domain.errors import StoreError
from dianzan.domain.shard import Shard
from dianzan.store import keys
from dianzan.store.calls import StoreCalls

_GATE: Final = struct.Struct(">IHBIQQ")
_CLOSED: Final = b"closed"  # a gate that never takes likes again
_BEHIND: Final = b"behind"  # of a shard that has lost likes: it takes none until it is rebuilt


def pack_gate(document: Document) -> bytes:
    """The rules a shard counts by, as `like_v1` reads them."""
    rules = document.rules
    return _GATE.pack(
        document.version,
        rules.likes_per_window,
        document.width,
        rules.buckets,
        rules.opens_ms,
        rules.closes_ms,
    )


class Gates:
    """Raises StoreError if the store refuses or a replica has not confirmed, StoreAway if it does not answer."""

    def __init__(self, calls: StoreCalls) -> None:
        self._calls = calls

    async def open(self, document: Document, shards: Iterable[Shard], *, first: bool) -> None:
        """Open these shards by the document's rules.

        Raises StoreError if a shard is closed, has rules of a later version, or lacks its gate and this is not the
        `first` time; shards already reached stay as they are.
        """
        gate, mode = pack_gate(document), "first" if first else "again"
        for shard in shards:
            await self._calls.confirmed("open_v1", keys.gate(shard), gate, mode)

    async def close(self, shards: Iterable[Shard]) -> None:
        """Close these shards permanently: after this returns none of them accepts a like."""
        for shard in shards:
            await self._calls.confirmed("close_v1", keys.gate(shard))

    async def take(self, shard: Shard) -> bool:
        """Take the gate from an open shard that cannot be trusted: it refuses until it is restored.

        Returns whether it was open.
        """
        return bool(await self._calls.confirmed("ungate_v1", keys.gate(shard)))

    async def missing(self, shards: Sequence[Shard]) -> list[Shard]:
        """Shards that have lost their gate, or were found behind the ledger."""
        return [shard for shard, gate in await self._read(shards) if gate in (None, _BEHIND)]

    async def behind(self, shards: Sequence[Shard]) -> list[Shard]:
        """Shards whose gate was taken since they were found behind the ledger."""
        return [shard for shard, gate in await self._read(shards) if gate == _BEHIND]

    async def closed(self, shards: Sequence[Shard]) -> list[Shard]:
        """Shards that are closed."""
        return [shard for shard, gate in await self._read(shards) if gate == _CLOSED]

    async def taking_likes(self, shards: Sequence[Shard]) -> list[Shard]:
        """Shards that are open."""
        return [shard for shard, gate in await self._read(shards) if gate not in (None, _CLOSED, _BEHIND)]

    async def confirm(self, shards: Iterable[Shard]) -> None:
        """Return if each of these shards has a gate and, with a replica, that holds all of the shard too.

        Raises StoreError otherwise.
        """
        for shard in shards:
            key = keys.gate(shard)
            if await self._calls.held(key, lambda asked, key=key: asked.get(key)) in (None, _BEHIND):  # type: ignore[misc]
                raise StoreError(f"The gate of {shard} was lost meanwhile. Run this again.")

    async def _read(self, shards: Sequence[Shard]) -> list[tuple[Shard, bytes | None]]:
        gates = await self._calls.each(list(map(keys.gate, shards)), lambda pipeline, key: pipeline.get(key))
        return list(zip(shards, gates, strict=True))
