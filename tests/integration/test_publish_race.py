"""Publications at the same moment: of two campaigns neither is refused, of one campaign the later one is in force."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta

import asyncpg
import pytest
from redis.asyncio import Redis

from dianzan.domain.campaign import Document
from dianzan.domain.errors import CampaignError
from dianzan.domain.shard import Shard
from dianzan.ledger.ledger import Ledger
from dianzan.life.lifecycle import Lifecycle
from dianzan.store import keys
from dianzan.store.calls import StoreCalls
from dianzan.store.gates import Gates, pack_gate
from dianzan.store.like_link import LikeLink
from dianzan.store.store import Store
from tests.support.nodes import one_server
from tests.support.wait import until
from tests.support.way import Way, make_way

LOCKS_AWAITED = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


class Slow(Gates):
    """They wait before they open, until they are let go on."""

    def __init__(self, calls: StoreCalls) -> None:
        super().__init__(calls)
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def open(self, document: Document, shards: Iterable[Shard], *, first: bool) -> None:
        self.reached.set()
        await self.go_on.wait()
        await super().open(document, shards, first=first)


async def test_two_campaigns_are_extended_at_the_same_time(
    valkey: Redis, ledger: Ledger, valkey_link: LikeLink
) -> None:
    both = [await make_way(valkey, ledger, valkey_link, shards=1) for _ in range(2)]

    async def extend(way: Way, days: int) -> None:
        old = way.document.rules
        await way.lifecycle.create(old.model_copy(update={"closes": old.closes + timedelta(days=days)}))
        await way.lifecycle.publish(way.campaign.id)

    for days in range(1, 6):
        await asyncio.gather(*(extend(way, days) for way in both))

    for way in both:
        published = await way.lifecycle.stored(way.campaign.id)
        assert published.rules.closes == way.document.rules.closes + timedelta(days=5)


async def test_of_two_publications_of_one_campaign_the_later_is_in_force_on_every_shard(
    valkey: Redis, ledger: Ledger, valkey_link: LikeLink, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    way = await make_way(valkey, ledger, valkey_link, shards=4)
    store = Store(one_server(valkey))
    store.gates = slow = Slow(store._calls)
    earlier = asyncio.create_task(Lifecycle(store, ledger).publish(way.campaign.id))
    await slow.reached.wait()
    later = asyncio.create_task(way.lifecycle.publish(way.campaign.id))

    async def later_waits_or_is_done() -> bool:
        return later.done() or bool(await sql.fetchval(LOCKS_AWAITED))

    await until(later_waits_or_is_done)
    slow.go_on.set()
    await asyncio.gather(earlier, later)

    newest = await ledger.campaigns.document(await way.lifecycle.stored(way.campaign.id))
    gates = [await valkey.get(keys.gate(Shard(way.campaign.id, shard))) for shard in range(4)]
    assert gates == [pack_gate(newest)] * 4
    assert await way.store.documents.read(way.campaign.id) == newest


async def test_a_close_that_was_interrupted_is_completed_and_not_taken_for_a_loss(
    valkey: Redis, ledger: Ledger, valkey_link: LikeLink
) -> None:
    way = await make_way(valkey, ledger, valkey_link, shards=2)
    await way.store.gates.close(way.campaign.shards)

    with pytest.raises(CampaignError, match=f"interrupted.*run dianzan campaign close {way.campaign.id}"):
        await way.lifecycle.publish(way.campaign.id)
    await way.lifecycle.close(way.campaign.id)

    assert await way.store.gates.closed(way.campaign.shards) == list(way.campaign.shards)
