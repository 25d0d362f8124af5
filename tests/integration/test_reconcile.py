"""The worker's comparison of store and ledger: what each may lack, what is rebuilt, what is left to an operator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dianzan.domain.errors import StoreAway
from dianzan.domain.shard import Shard
from dianzan.ledger.ledger import Ledger
from dianzan.process import background, metrics
from dianzan.store import keys
from dianzan.store.like_link import LikeLink
from dianzan.store.store import Store
from tally_worker import comparison
from tally_worker.comparison import Comparison, Reconciler
from tally_worker.flush import Consumer
from tests.support.nodes import one_server
from tests.support.store_state import bring_back, dump
from tests.support.wait import until
from tests.support.way import Way, ballots, make_way

SHARDS = 4


@pytest.fixture
async def way(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Way:
    return await make_way(valkey, ledger, valkey_link, shards=SHARDS)


@pytest.fixture
def reconciler(way: Way) -> Reconciler:
    return reconciler_over(way, way.store)


def reconciler_over(way: Way, store: Store) -> Reconciler:
    """Looks at gates through a store of its own, and compares through the way's."""
    comparison = Comparison(way.store, way.ledger, Consumer(way.store, way.ledger))
    return Reconciler(store, way.ledger, comparison, way.restorer)


def drift(way: Way, direction: str) -> float:
    """What the metric says of the campaign."""
    likes: float = metrics.DRIFT.labels(way.campaign.id, direction)._value.get()
    return likes


async def test_likes_that_wait_in_the_streams_are_no_difference(way: Way, reconciler: Reconciler) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    await way.cast(*ballots(40, 80))

    await reconciler.run_once()

    assert (drift(way, "behind"), drift(way, "ahead")) == (0, 0)
    assert await way.store.gates.missing(way.campaign.shards) == []
    await way.check(dict.fromkeys(range(1, 6), 32))


async def test_likes_committed_and_still_in_the_stream_are_no_difference(way: Way, reconciler: Reconciler) -> None:
    await way.cast(*ballots(0, 40))
    await way.killed("flush.after_commit")

    await reconciler.run_once()

    assert (drift(way, "behind"), drift(way, "ahead")) == (0, 0)
    await way.check(dict.fromkeys(range(1, 6), 16))


async def test_a_store_brought_back_from_an_older_copy_is_rebuilt_and_counts_nothing_twice(
    valkey: Redis, way: Way, reconciler: Reconciler
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    copy = await dump(valkey)
    await way.cast(*ballots(40, 80))
    await way.flush()
    counted = await way.in_ledger()
    await bring_back(valkey, copy)

    await reconciler.run_once()

    assert drift(way, "behind") == 80
    assert await way.store.gates.missing(way.campaign.shards) == []
    assert await way.cast(*ballots(0, 80)) == 0, "every like is known again"
    await way.check(counted)
    await reconciler.run_once()
    assert drift(way, "behind") == 0


async def test_only_shards_that_are_behind_are_rebuilt(valkey: Redis, way: Way, reconciler: Reconciler) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    await valkey.hincrby(keys.counts(Shard(way.campaign.id, 2)), "1", -1)
    before = metrics.REPAIRED.labels(way.campaign.id)._value.get()
    counted = await way.in_ledger()

    with capture_logs() as logged:
        await reconciler.run_once()

    assert metrics.REPAIRED.labels(way.campaign.id)._value.get() == before + 1
    await way.check(counted)
    differ, *_, rebuilt = [line for line in logged if line["log_level"] == "error"]
    assert (differ["likes"], differ["likes_by_shard"]) == (1, {2: 1})
    assert rebuilt["event"].startswith("shards that had lost likes are rebuilt")
    assert rebuilt["shards"] == [2]


async def test_a_shard_that_has_lost_its_gate_before_is_left_to_an_operator(
    valkey: Redis, way: Way, reconciler: Reconciler
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    await valkey.delete(keys.gate(Shard(way.campaign.id, 1)), keys.counts(Shard(way.campaign.id, 1)))
    await valkey.hincrby(keys.counts(Shard(way.campaign.id, 2)), "1", -1)

    await reconciler.run_once()

    assert await way.store.gates.missing(way.campaign.shards) == [way.campaign.shards[1]]


async def test_a_repair_that_cannot_run_leaves_the_shard_shut_and_is_tried_again(
    valkey: Redis, way: Way, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "DRAIN_S_MAX", 0.1)
    await way.cast(*ballots(0, 40))
    await way.flush()
    await valkey.hincrby(keys.counts(Shard(way.campaign.id, 2)), "1", -1)
    counted = await way.in_ledger()
    stuck = await valkey.xadd(keys.stream(Shard(way.campaign.id, 2)), {"v": "9"})

    await reconciler.run_once()
    assert await way.store.gates.missing(way.campaign.shards) == [], "an entry nobody can read: nothing is said"
    await valkey.xdel(keys.stream(Shard(way.campaign.id, 2)), stuck)
    async with way.ledger.campaigns.step(way.campaign.id):
        monkeypatch.setattr("dianzan.ledger.step.LOCK_WAIT_S", 1)
        await reconciler.run_once()
    assert await way.store.gates.missing(way.campaign.shards) == [way.campaign.shards[2]]

    await reconciler.run_once()
    assert await way.store.gates.missing(way.campaign.shards) == []
    await way.check(counted)


async def test_a_ledger_that_has_lost_rows_is_told_and_nothing_is_changed_until_an_operator_accepts_it(
    valkey: Redis, way: Way, reconciler: Reconciler, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    await _lose_rows(sql, way.campaign.number)
    before = await dump(valkey)

    await reconciler.run_once()

    assert drift(way, "ahead") == 80
    assert drift(way, "behind") == 0
    assert await dump(valkey) == before
    restored = await way.restorer.restore(way.campaign.id, drain_s_max=5, accept_ledger=True)
    assert restored.shards == list(way.campaign.shards)
    assert await way.cast(*ballots(0, 40)) == 80, "who was lost may like again"


async def _lose_rows(sql: asyncpg.Connection[asyncpg.Record], campaign: int) -> None:
    await sql.execute("DELETE FROM likes WHERE campaign = $1", campaign)
    await sql.execute("DELETE FROM counts WHERE campaign = $1", campaign)
    await sql.execute("DELETE FROM hours WHERE campaign = $1", campaign)


async def test_likes_that_the_ledger_refuses_end_no_comparison(
    valkey: Redis, way: Way, reconciler: Reconciler, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    for day in way.document.rules.window_dates():
        await sql.execute(f"DROP TABLE likes_{way.campaign.number}_{day:%Y%m%d}")
    await way.cast(*ballots(0, 40))
    waiting = await way.store.streams.backlog(way.campaign.shards)
    before = metrics.RECONCILED_TIMESTAMP._value.get()

    await reconciler.run_once()

    assert metrics.RECONCILED_TIMESTAMP._value.get() > before
    assert await way.store.streams.backlog(way.campaign.shards) == waiting


@pytest.mark.parametrize("sealed", [False, True], ids=["closed", "sealed"])
async def test_a_gate_that_an_older_copy_opens_again_is_closed(
    valkey: Redis, way: Way, reconciler: Reconciler, sealed: bool
) -> None:
    copy = await dump(valkey)
    if sealed:
        await way.sealer.seal(way.campaign.id, drain_s_max=5)
    else:
        await way.lifecycle.close(way.campaign.id)
    await bring_back(valkey, copy)

    await reconciler.run_once()

    assert await way.store.gates.closed(way.campaign.shards) == list(way.campaign.shards)


async def test_a_disturbance_brings_the_next_look_forward(
    valkey: Redis, way: Way, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "SETTLE_S", 0.05)
    await way.cast(*ballots(0, 40))
    await way.flush()
    async with _running(reconciler) as disturbed:
        await until(_looked(way, 0), what="the look at the start")
        await valkey.hincrby(keys.counts(Shard(way.campaign.id, 2)), "1", 3)
        disturbed.set()
        await until(_looked(way, 3), what="the look after a disturbance")


async def test_a_look_that_a_lost_connection_puts_off_is_soon_made(
    valkey: Redis, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "SETTLE_S", 0.05)
    lost = 0

    async def missing(shards: Sequence[Shard]) -> list[Shard]:
        nonlocal lost
        if lost == 0:
            lost += 1
            raise StoreAway("a connection was reset while nobody used it")
        return await way.store.gates.missing(shards)

    unlucky = Store(one_server(valkey))
    monkeypatch.setattr(unlucky.gates, "missing", missing)
    await valkey.hincrby(keys.counts(Shard(way.campaign.id, 2)), "1", 3)
    async with _running(reconciler_over(way, unlucky)):
        await until(_looked(way, 3), what="the look after the one that was put off")
    assert lost == 1


def _looked(way: Way, ahead: int) -> Callable[[], Awaitable[bool]]:
    async def seen() -> bool:
        return metrics.RECONCILED_TIMESTAMP._value.get() > 0 and drift(way, "ahead") == ahead

    return seen


@asynccontextmanager
async def _running(reconciler: Reconciler) -> AsyncIterator[asyncio.Event]:
    disturbed = asyncio.Event()
    task = asyncio.create_task(reconciler.run(disturbed))
    try:
        yield disturbed
    finally:
        await background.stop(task)


async def test_shards_that_the_store_has_lost_are_named_to_an_operator(
    way: Way, valkey: Redis, reconciler: Reconciler
) -> None:
    await way.cast(*ballots(0, 40))
    await way.flush()
    await valkey.delete(keys.gate(way.campaign.shards[2]))

    with capture_logs() as lines:
        await reconciler.run_once()

    told = [line for line in lines if line["campaign"] == way.campaign.id]
    assert [(line["log_level"], line["shards"]) for line in told] == [("warning", [2])]
    assert "dianzan restore" in told[0]["event"]
