"""A store's whole content to compare, one of its settings for a while, and a campaign with open gates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from dianzan.domain.campaign import Document
from dianzan.store.store import Store
from tests.support.casting import (
    document,
)

Dump = dict[bytes, bytes | None]


async def dump(client: Redis) -> Dump:
    """Every key with all it holds."""
    found: Dump = {}
    async for key in client.scan_iter(count=1_000):
        found[key] = await client.dump(key)
    return found


async def bring_back(client: Redis, copy: Dump) -> None:
    """The store as it was when the copy was made."""
    await client.flushdb()
    for key, value in copy.items():
        assert value is not None
        await client.restore(key, 0, value)


async def opened(store: Store, **changes: Any) -> Document:
    """A campaign with open gates."""
    campaign = document(**{"shards": 1, **changes})
    await store.gates.open(campaign, campaign.rules.every_shard, first=True)
    return campaign


@asynccontextmanager
async def configured(client: Redis, name: str, value: str) -> AsyncIterator[None]:
    """A server setting for the length of the block."""
    usual = (await client.config_get(name))[name] or ""
    await client.config_set(name, value)
    try:
        yield
    finally:
        await client.config_set(name, usual)
