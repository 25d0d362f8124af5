"""Likes that the ledger holds and the store never took: an alarm, a shut seal, and two ways out that both lead out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dianzan.domain.errors import CampaignError
from dianzan.domain.shard import Shard
from dianzan.ledger.ledger import Ledger
from dianzan.local.folder import redis_url
from dianzan.local.valkey import ValkeyServer
from dianzan.process import metrics
from dianzan.store import keys
from dianzan.store.agreements import Agreements
from dianzan.store.like_link import LikeLink
from dianzan.store.nodes import connect
from dianzan.store.store import Store
from tally_worker.comparison import Comparison, Reconciler
from tally_worker.flush import Consumer
from tests.support import tampering
from tests.support.store_state import dump
from tests.support.tampering import Sql
from tests.support.way import Way, ballots, make_way

INVENTED = 12


@pytest.fixture
async def way(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Way:
    """A campaign with 80 likes, in which store and ledger have been found equal."""
    made = await make_way(valkey, ledger, valkey_link, shards=4)
    await made.cast(*ballots(0, 40))
    await made.flush()
    await look(made)
    return made


async def look(way: Way) -> None:
    """A comparison by a worker that has just started."""
    comparison = Comparison(way.store, way.ledger, Consumer(way.store, way.ledger))
    await Reconciler(way.store, way.ledger, comparison, way.restorer).run_once()


def drift(way: Way) -> dict[str, float]:
    """What the metric says of the campaign."""
    of = way.campaign.id
    return {name: metrics.DRIFT.labels(of, name)._value.get() for name in ("behind", "ahead", "foreign")}


async def pad(sql: Sql, way: Way) -> None:
    """Rows and counts by hand, as if they had been flushed."""
    await tampering.add_rows(sql, way.campaign, INVENTED)
    await tampering.add_counts(sql, way.campaign, INVENTED)


async def test_the_worker_writes_none_of_them_into_the_store(valkey: Redis, way: Way, sql: Sql) -> None:
    await pad(sql, way)
    before, repaired = await dump(valkey), metrics.REPAIRED.labels(way.campaign.id)._value.get()

    await look(way)

    assert drift(way) == {"behind": 0, "ahead": 0, "foreign": INVENTED}
    assert await dump(valkey) == before
    assert await way.store.gates.taking_likes(way.campaign.shards) == list(way.campaign.shards)
    assert metrics.REPAIRED.labels(way.campaign.id)._value.get() == repaired


async def another_life(valkey: Redis, way: Way) -> None:
    """What a restart of the store leaves: all its data, and a life that the agreements do not name."""
    for shard in way.campaign.shards:
        await valkey.set(keys.agreed(shard), "an earlier life")


async def again(way: Way) -> Way:
    """The campaign as it is stored now."""
    return replace(way, campaign=await way.lifecycle.stored(way.campaign.id))


async def test_a_restart_of_the_store_brings_none_of_them_in_once_they_are_known(
    valkey: Redis, way: Way, sql: Sql
) -> None:
    await pad(sql, way)
    await look(way)
    await another_life(valkey, way)

    await look(await again(way))

    assert drift(way) == {"behind": 0, "ahead": 0, "foreign": INVENTED}
    with pytest.raises(CampaignError, match=f"holds {INVENTED} likes that the store never took"):
        await way.sealer.seal(way.campaign.id, drain_s_max=5)
    with pytest.raises(CampaignError, match=r"would take them over.*--accept-ledger"):
        await way.restorer.restore(way.campaign.id, drain_s_max=5)


async def test_a_shard_that_cannot_be_compared_now_does_not_make_them_forgotten(way: Way, sql: Sql) -> None:
    await pad(sql, way)
    await look(way)

    async with way.ledger.campaigns.step(way.campaign.id) as step:
        await step.lock_shards(way.campaign.shards)  # as another worker's long flush
        await look(await again(way))

    assert (await again(way)).campaign.foreign_since is not None


async def test_once_they_are_gone_a_store_that_has_lost_likes_is_rebuilt_again(
    valkey: Redis, way: Way, sql: Sql
) -> None:
    await pad(sql, way)
    await look(way)
    await tampering.take_rows(sql, way.campaign, INVENTED)
    await tampering.take_counts(sql, way.campaign, INVENTED)
    await look(await again(way))
    assert (await again(way)).campaign.foreign_since is None
    await another_life(valkey, way)
    await valkey.hincrby(keys.counts(Shard(way.campaign.id, 2)), "1", -1)

    await look(await again(way))

    assert drift(way)["behind"] == 1
    await way.check(dict.fromkeys(range(1, 6), 16))


async def test_likes_go_on_being_counted_meanwhile(way: Way, sql: Sql) -> None:
    await pad(sql, way)
    await look(way)

    assert await way.cast(*ballots(40, 50)) == 20
    await way.flush()
    await look(way)
    assert drift(way)["foreign"] == INVENTED


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
async def test_neither_seal_nor_restore_takes_them_and_the_campaign_stays_as_it_is(
    way: Way, sql: Sql, closed: bool
) -> None:
    if closed:
        await way.lifecycle.close(way.campaign.id)
    await pad(sql, way)
    state = (await way.lifecycle.stored(way.campaign.id)).state

    with pytest.raises(CampaignError, match=f"holds {INVENTED} likes that the store never took.*Remove"):
        await way.sealer.seal(way.campaign.id, drain_s_max=5)
    with pytest.raises(CampaignError, match=f"holds {INVENTED} likes that it never took.*--accept-ledger"):
        await way.restorer.restore(way.campaign.id, drain_s_max=5)

    assert (await way.lifecycle.stored(way.campaign.id)).state is state


async def test_removing_them_leads_out(way: Way, sql: Sql) -> None:
    await pad(sql, way)
    await look(way)

    await tampering.take_rows(sql, way.campaign, INVENTED)
    await way.restorer.restore(way.campaign.id, drain_s_max=5, accept_ledger=True)

    await look(way)
    assert drift(way)["foreign"] == 0
    _counted, seal = await way.sealer.seal(way.campaign.id, drain_s_max=5)
    assert seal.likes == 80


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
async def test_accepting_the_ledger_leads_out(way: Way, sql: Sql, closed: bool) -> None:
    if closed:
        await way.lifecycle.close(way.campaign.id)
    await pad(sql, way)

    await way.restorer.restore(way.campaign.id, drain_s_max=5, accept_ledger=True)

    await look(way)
    assert drift(way)["foreign"] == 0
    _counted, seal = await way.sealer.seal(way.campaign.id, drain_s_max=5)
    assert seal.likes == 80 + INVENTED


async def test_rows_that_nobody_counted_have_a_way_out_too(way: Way, sql: Sql) -> None:
    await tampering.add_rows(sql, way.campaign, INVENTED)

    with pytest.raises(CampaignError, match=r"(?s)rows are not those that were counted.*--accept-ledger"):
        await way.sealer.seal(way.campaign.id, drain_s_max=5)
    await way.restorer.restore(way.campaign.id, drain_s_max=5, accept_ledger=True)

    counts = dict.fromkeys(range(1, 6), 16)
    await way.check(counts | {1: 16 + INVENTED})
    _counted, seal = await way.sealer.seal(way.campaign.id, drain_s_max=5)
    assert seal.likes == 80 + INVENTED


async def test_rows_that_are_gone_have_a_way_out_too(way: Way, sql: Sql) -> None:
    await tampering.add_rows(sql, way.campaign, INVENTED)
    await tampering.add_counts(sql, way.campaign, INVENTED)
    await tampering.take_rows(sql, way.campaign, INVENTED)

    with pytest.raises(CampaignError, match=r"(?s)rows are not those that were counted.*--accept-ledger"):
        await way.sealer.seal(way.campaign.id, drain_s_max=5)
    await way.restorer.restore(way.campaign.id, drain_s_max=5, accept_ledger=True)

    _counted, seal = await way.sealer.seal(way.campaign.id, drain_s_max=5)
    assert seal.likes == 80


async def test_a_store_of_another_life_is_rebuilt_and_that_is_counted(valkey: Redis, way: Way, sql: Sql) -> None:
    for shard in way.campaign.shards:
        await valkey.set(keys.agreed(shard), "a process of before")
    await pad(sql, way)
    repaired = metrics.REPAIRED.labels(way.campaign.id)._value.get()

    await look(way)

    assert drift(way)["foreign"] == 0
    assert drift(way)["behind"] == INVENTED
    assert metrics.REPAIRED.labels(way.campaign.id)._value.get() > repaired


async def test_a_server_that_restarts_lives_another_life(tmp_path: Path) -> None:
    shard, server = Shard("lives", 0), ValkeyServer(tmp_path / "valkey", 0, [])
    server.start()
    try:
        assert await _unbroken_after_a_note(tmp_path, shard)
        server.stop()
        server.start()
        store = Store(connect(redis_url(tmp_path / "valkey")))
        assert not await store.agreements.unbroken(shard)
        await store.aclose()
    finally:
        server.stop()


async def _unbroken_after_a_note(folder: Path, shard: Shard) -> bool:
    store = Store(connect(redis_url(folder / "valkey")))
    agreements: Agreements = store.agreements
    assert not await agreements.unbroken(shard), "nothing was noted yet"
    life = await agreements.life(shard)
    assert life is not None
    await agreements.note(shard, life)
    unbroken = await agreements.unbroken(shard)
    await store.aclose()
    return unbroken
