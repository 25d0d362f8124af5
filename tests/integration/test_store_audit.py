"""The worker's look at the store: an older copy takes no likes, what is closed stays closed, all else is left alone."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from dianzan import keys
from dianzan.ledger import Ledger
from dianzan.like_link import LikeLink
from dianzan.restore import Restorer
from tally_worker.audit import StoreAudit
from tests.support.store_state import Dump, dump
from tests.support.way import Way, ballots, make_way

SHARDS = 4


@pytest.fixture
async def way(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Way:
    return await make_way(valkey, ledger, valkey_link, shards=SHARDS)


async def bring_back(client: Redis, copy: Dump) -> None:
    """The store as it was when the copy was made."""
    await client.flushdb()
    for key, value in copy.items():
        assert value is not None
        await client.restore(key, 0, value)


async def test_a_store_brought_back_from_an_older_copy_refuses_until_it_is_restored(valkey: Redis, way: Way) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    copy = await dump(valkey)
    await way.cast(*ballots(40, 80))
    await way.flush()
    counted = await way.in_ledger()
    await bring_back(valkey, copy)

    await StoreAudit(way.store, way.ledger).run_once()

    assert await way.store.gates_missing(way.campaign.id, SHARDS) == list(range(SHARDS))
    await Restorer(way.store, way.ledger, way.lifecycle).restore(way.campaign.id, drain_s_max=5)
    assert await way.cast(*ballots(0, 80)) == 0, "every like is known again"
    await way.check(counted)


async def test_only_shards_that_are_behind_lose_their_gate(valkey: Redis, way: Way) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    await valkey.hincrby(keys.counts(way.campaign.id, 2), "1", -1)

    await StoreAudit(way.store, way.ledger).run_once()

    assert await way.store.gates_missing(way.campaign.id, SHARDS) == [2]


async def test_likes_that_wait_for_the_ledger_are_no_loss(valkey: Redis, way: Way) -> None:
    audit = StoreAudit(way.store, way.ledger)
    await audit.run_once()
    await way.cast(*ballots(0, 40))
    await audit.run_once()
    await way.flush()
    await way.cast(*ballots(40, 80))
    before = await dump(valkey)

    await audit.run_once()

    assert await dump(valkey) == before


@pytest.mark.parametrize("sealed", [False, True], ids=["closed", "sealed"])
async def test_a_gate_that_an_older_copy_opens_again_is_closed(valkey: Redis, way: Way, sealed: bool) -> None:
    copy = await dump(valkey)
    if sealed:
        await way.lifecycle.seal(way.campaign.id, drain_s_max=5)
    else:
        await way.lifecycle.close(way.campaign.id)
    await bring_back(valkey, copy)

    await StoreAudit(way.store, way.ledger).run_once()

    assert await way.store.gates_closed(way.campaign.id, SHARDS) == list(range(SHARDS))
