"""Marks of windows long past are removed, no others, and only while three clocks agree."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dianzan.domain.campaign import Document
from dianzan.domain.errors import StoreAway
from dianzan.domain.limits import CLOCK_SKEW_MS_MAX, MARKS_STAND_DAYS
from dianzan.domain.windows import EPOCH, now_ms
from dianzan.ledger.ledger import Ledger
from dianzan.life.lifecycle import Lifecycle
from dianzan.store.like_link import LikeLink
from dianzan.store.store import Store
from tally_worker import sweep
from tally_worker.sweep import Sweeper
from tests.support.casting import answered, call_of, hours_ago, voter
from tests.support.client import candidates, rules
from tests.support.nodes import one_server
from tests.support.wait import until

VOTERS = [voter(n) for n in range(20)]


@dataclass
class Old:
    """A published campaign that has run for ten days, with a mark of each voter in every window."""

    document: Document
    store: Store
    ledger: Ledger

    async def marked(self) -> set[date]:
        """Windows in which the store knows what every voter liked; none knows but some."""
        found: set[date] = set()
        for day in self.document.rules.window_dates():
            known = [bool(await self.store.marks.liked(self.document, (day - EPOCH).days, hashed)) for hashed in VOTERS]
            assert all(known) or not any(known)
            found |= {day} if all(known) else set()
        return found

    @property
    def kept(self) -> set[date]:
        """Windows that ended less than MARKS_STAND_DAYS ago, or have not ended."""
        limit_ms = now_ms() - MARKS_STAND_DAYS * 86_400_000
        rules = self.document.rules
        return {day for day in rules.window_dates() if rules.window_on(day).end_ms > limit_ms}


async def make_old(valkey: Redis, ledger: Ledger, link: LikeLink, **changes: Any) -> Old:
    store = Store(one_server(valkey))
    lifecycle = Lifecycle(store, ledger)
    wanted = rules(**{"opens": hours_ago(240), "closes": hours_ago(-24), "shards": 2, **changes})
    await lifecycle.create(wanted)
    await lifecycle.import_candidates(wanted.id, candidates(5))
    document = await lifecycle.publish(wanted.id)
    window = document.rules.window_at(now_ms())
    for day in document.rules.window_dates():
        # The function takes a window's name from its sender and compares the bounds with its clock.
        past = replace(window, day=(day - EPOCH).days)
        for reply in await link.send([call_of(document, [(hashed, [1])], past) for hashed in VOTERS]):
            assert answered(reply) == ["c"]
    return Old(document, store, ledger)


@pytest.fixture
async def old(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Old:
    return await make_old(valkey, ledger, valkey_link)


async def test_marks_of_windows_long_past_go_and_all_others_stay(old: Old) -> None:
    every = set(old.document.rules.window_dates())
    assert await old.marked() == every

    assert await Sweeper(old.store, old.ledger).run_once() > 0

    assert 0 < len(old.kept) < len(every)
    assert await old.marked() == old.kept


async def test_a_second_sweep_removes_nothing_and_remembers_the_last_window(old: Old) -> None:
    sweeper = Sweeper(old.store, old.ledger)
    await sweeper.run_once()

    assert await sweeper.run_once() == 0

    stored = await old.ledger.campaigns.one(old.document.rules.id)
    assert stored is not None
    assert stored.swept_through == min(old.kept) - timedelta(days=1)


async def test_a_sweep_that_died_before_it_was_recorded_is_done_again(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise RuntimeError("the worker died here")

    with monkeypatch.context() as patched:
        patched.setattr(old.ledger.campaigns, "set_swept", die)
        with pytest.raises(RuntimeError):
            await Sweeper(old.store, old.ledger).run_once()

    await Sweeper(old.store, old.ledger).run_once()

    assert await old.marked() == old.kept


@pytest.mark.parametrize("ahead_ms", [CLOCK_SKEW_MS_MAX + 1_000, -CLOCK_SKEW_MS_MAX - 1_000, 30 * 86_400_000])
@pytest.mark.parametrize("whose", ["worker", "store", "postgres"])
async def test_a_clock_that_differs_puts_the_sweep_off(
    old: Old, monkeypatch: pytest.MonkeyPatch, whose: str, ahead_ms: int
) -> None:
    async def store_ms() -> list[int]:
        return [now_ms() + ahead_ms]

    async def ledger_now() -> object:
        return hours_ago(-ahead_ms / 3_600_000)

    match whose:
        case "worker":
            monkeypatch.setattr(sweep, "now_ms", lambda: now_ms() + ahead_ms)
        case "store":
            monkeypatch.setattr(old.store, "clocks_ms", store_ms)
        case "postgres":
            monkeypatch.setattr(old.ledger, "now", ledger_now)

    with capture_logs() as logged:
        assert await Sweeper(old.store, old.ledger).run_once() == 0

    (line,) = logged
    assert "clocks differ" in line["event"]
    ahead_s = {"worker": (-ahead_ms, -ahead_ms), "store": (ahead_ms, 0), "postgres": (0, ahead_ms)}[whose]
    told_s = (line["store_ahead_s"][0], line["postgres_ahead_s"])
    assert told_s == pytest.approx([ms / 1000 for ms in ahead_s], abs=1)
    assert await old.marked() == set(old.document.rules.window_dates())


async def test_the_one_window_of_a_whole_campaign_stays_until_long_after_its_end(
    valkey: Redis, ledger: Ledger, valkey_link: LikeLink, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    old = await make_old(valkey, ledger, valkey_link, window="campaign")
    every = set(old.document.rules.window_dates())
    await Sweeper(old.store, old.ledger).run_once()
    assert await old.marked() == every

    ended = old.document.rules.model_copy(update={"closes": hours_ago(24 * MARKS_STAND_DAYS + 1)})
    await sql.execute("UPDATE campaigns SET rules = $2 WHERE id = $1", ended.id, ended.model_dump_json())
    await Sweeper(old.store, old.ledger).run_once()

    assert await old.marked() == set()


async def test_a_draft_is_left_alone(valkey: Redis, ledger: Ledger) -> None:
    store = Store(one_server(valkey))
    await Lifecycle(store, ledger).create(rules(opens=hours_ago(900), closes=hours_ago(800)))

    assert await Sweeper(store, ledger).run_once() == 0


async def test_a_store_that_is_away_only_puts_the_sweep_off(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SWEEP_EVERY_S", 0.01)
    monkeypatch.setattr(sweep, "CLOCK_STEADY_S", 0.0)
    usual, refusals = old.store.clocks_ms, 2

    async def away_at_first() -> list[int]:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise StoreAway("the store is away")
        return await usual()

    monkeypatch.setattr(old.store, "clocks_ms", away_at_first)
    sweeping = asyncio.create_task(Sweeper(old.store, old.ledger).run())

    async def swept() -> bool:
        stored = await old.ledger.campaigns.one(old.document.rules.id)
        return stored is not None and stored.swept_through == min(old.kept) - timedelta(days=1)

    await until(swept, what="the sweep was done in the end")
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping


async def test_no_sweep_runs_until_the_machines_clock_has_been_steady_for_an_hour(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper = Sweeper(old.store, old.ledger)
    monotonic, wall = time.monotonic(), time.time()

    def at(passed_s: float, jumped_s: float = 0) -> float:
        monkeypatch.setattr(time, "monotonic", lambda: monotonic + passed_s)
        monkeypatch.setattr(time, "time", lambda: wall + passed_s + jumped_s)
        return sweeper.steady_s()

    ten_days_s = 864_000
    steady = [at(3_500), at(3_700), at(3_800, ten_days_s), at(7_300, ten_days_s), at(7_500, ten_days_s)]
    monkeypatch.undo()

    assert [seconds >= sweep.CLOCK_STEADY_S for seconds in steady] == [False, True, False, False, True]
