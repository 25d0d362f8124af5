"""Faults of a primary and its replica: the replicated mode's promise is the loss of any one machine."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from tests.faults.journal import Attempt
from tests.faults.processes import crash, stopped
from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.worlds_replicated import pair_of, pair_world
from tests.support.wait import until

CUT_S = 1.5
VOTERS_FOOLED_MIN = 10


async def _unanswered(run: Run, began_s: float) -> None:
    """Wait until what was asked after an instant has been refused or called unknown: the fault has an effect."""

    async def seen() -> bool:
        return any(a.heard is not None and not a.results for a in run.load.since(began_s))

    await until(seen, within_s=15, what="a voter is not answered 200")


async def _link_broken(run: Run, *, mode: Mode) -> None:
    link, began_s = pair_of(run.world).replica_link, time.monotonic()
    link.set(mode)
    with run.nothing_durable():
        await _unanswered(run, began_s)
        await asyncio.sleep(CUT_S)
    link.heal()
    run.healed()


scenario("replica link cut: no 200 without a replica", world=pair_world)(partial(_link_broken, mode=Mode.refuse))
scenario("replica link stalled", world=pair_world)(partial(_link_broken, mode=Mode.stall))


@scenario("replica stopped (SIGSTOP), and goes on", world=pair_world)
async def replica_stopped(run: Run) -> None:
    began_s = time.monotonic()
    with stopped(pair_of(run.world).replica), run.nothing_durable():
        await _unanswered(run, began_s)
    run.healed()


@scenario("replica killed -9, and back", world=pair_world)
async def replica_killed(run: Run) -> None:
    pair, began_s = pair_of(run.world), time.monotonic()
    await asyncio.to_thread(pair.replica.kill)
    with run.nothing_durable():
        await _unanswered(run, began_s)
    await asyncio.to_thread(pair.replica.start)
    await pair.whole()
    run.healed()


@scenario("primary killed -9, its replica promoted", world=pair_world)
async def failover(run: Run) -> None:
    await pair_of(run.world).fail_over()
    run.healed()


@scenario("replica promoted while the old primary still has clients", world=pair_world)
async def two_primaries(run: Run) -> None:
    pair = pair_of(run.world)
    pair.replica_link.set(Mode.refuse)  # the network has split: the old primary and one vote API on one side
    began_s = time.monotonic()
    await pair.promote()
    pair.point(pair.primary, "api1", "worker1", "operator")
    await _unanswered(run, began_s)

    def of_old() -> list[Attempt]:
        return [a for a in run.load.since(began_s + 0.5, 0) if a.heard is not None]

    async def asked() -> bool:
        return len(of_old()) >= VOTERS_FOOLED_MIN

    await until(asked, within_s=20, what="voters have asked the old primary")
    assert not any(a.results for a in of_old()), "the old primary has acknowledged a like alone"
    await pair.whole()
    run.healed()


@scenario("primary back faster than anybody looks", world=pair_world)
async def fast_restart(run: Run) -> None:
    pair = pair_of(run.world)
    await crash(pair.primary)
    pair.point(pair.primary)
    await pair.whole()
    run.healed()


@scenario("primary dies while the replica is in full sync", world=pair_world)
async def dies_in_full_sync(run: Run) -> None:
    pair = pair_of(run.world)
    async with pair.client(pair.primary) as primary:
        await primary.config_set("rdb-key-save-delay", "20000")  # microseconds a key: the copy takes some seconds
        pair.replica_link.set(Mode.refuse)
        await primary.config_set("repl-backlog-size", "16384")
        for _ in range(4):  # no longer fits the backlog: the replica needs a full copy
            await primary.set("dianzan:filler", "x" * 16_384)
        await primary.delete("dianzan:filler")
        pair.replica_link.heal()

        async def copying() -> bool:
            return int((await primary.info("persistence"))["rdb_bgsave_in_progress"]) == 1

        await until(copying, within_s=15, what="a full copy runs")
    with run.nothing_durable():
        await asyncio.to_thread(pair.primary.kill)
        await asyncio.sleep(0.5)
    await asyncio.to_thread(pair.primary.start)  # a replica without a whole copy must not be promoted
    await pair.whole()
    run.healed()
