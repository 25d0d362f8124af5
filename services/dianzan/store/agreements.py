"""Agreements: which unbroken life of a shard's server was last seen to agree with the ledger."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from dianzan.domain.errors import StoreAway, StoreError, StoreFull
from dianzan.domain.shard import Shard
from dianzan.store import keys
from dianzan.store.calls import StoreCalls


class Agreements:
    """A server that has neither restarted nor failed over since an agreement has lost nothing that it counted.

    The agreement stands in the store itself: a copy that is brought back holds the word of an earlier life.
    Raises StoreAway if the store does not answer.
    """

    def __init__(self, calls: StoreCalls) -> None:
        self._calls = calls

    async def life(self, shard: Shard) -> str | None:
        """The life of the server that holds a shard: its process and its history. None if it does not tell."""
        try:
            server: dict[str, Any] = await self._calls.one(keys.gate(shard), _info("server"))
            replication: dict[str, Any] = await self._calls.one(keys.gate(shard), _info("replication"))
            return f"{server['run_id']} {replication['master_replid']}"
        except StoreAway:
            raise
        except (StoreError, KeyError):
            return None

    async def note(self, shard: Shard, life: str) -> None:
        """Note that a shard agreed with the ledger in this life; a store without memory for it notes nothing."""
        key = keys.agreed(shard)
        try:
            if await self._noted(shard) != life:
                await self._calls.one(key, lambda client: client.set(key, life))
        except StoreFull:
            return

    async def unbroken(self, shard: Shard) -> bool:
        """Whether the shard's server lives the life of the last agreement; with a replica, one that follows it.

        What was read of the shard before is then of this life too. Raises StoreError if no replica confirms: a primary
        that was deposed has lost nothing either, and yet lacks what was counted since.
        """
        key = keys.agreed(shard)
        noted = await self._calls.held(key, lambda asked: asked.get(key))
        return noted is not None and noted.decode() == await self.life(shard)

    async def _noted(self, shard: Shard) -> str | None:
        key = keys.agreed(shard)
        noted: bytes | None = await self._calls.one(key, lambda client: client.get(key))
        return noted.decode() if noted else None


def _info(section: str) -> Any:
    def ask(client: Redis) -> Any:
        return client.info(section)

    return ask
