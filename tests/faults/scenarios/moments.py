"""Faults at one exact moment: a proxy waits for a request to come by, and breaks its link there."""

from __future__ import annotations

import asyncio
import re
import time
import urllib.request
from functools import partial

from dianzan.domain.limits import POSTGRES_TIMEOUT_S
from tests.faults.checker import Identity, acknowledged
from tests.faults.journal import Heard
from tests.faults.processes import Process, stopped
from tests.faults.proxy import Awaited, Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.support.wait import until

# What goes over the wire at the moment: to Postgres, to the store.
COMMIT, REMOVAL, LIKES = b"COMMIT", b"remove_v1", b"like_v1"
END_IDLE_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE state = 'idle in transaction' AND state_change < clock_timestamp() - interval '0.5 s'
"""
MET_S_MAX = 15.0
STOPPED_SEEN_S = 0.8  # by then every session that a stopped worker has left in a transaction is idle for 0.5 s


async def _met(awaited: Awaited) -> None:
    """Wait until a request has come by, where its link breaks."""
    await asyncio.wait_for(awaited.met.wait(), MET_S_MAX)


def _executed_unheard(run: Run) -> set[Identity]:
    """Likes that no answer has called counted, and a later one liked already."""
    attempts = run.load.attempts
    told = {(code, a.voter) for a in attempts for code, (status, _) in a.results.items() if status == "counted"}
    return acknowledged(attempts) - told


async def _reply_lost(run: Run, *, link: str, request: bytes) -> None:
    proxy = run.world.proxies[link]
    before = run.load.unknown
    try:
        if request == LIKES:
            proxy.delay_s = 0.1
            await _many_wait(run)  # so that new likes, too, are in the batch
        await asyncio.wait_for(proxy.set_at(request, Mode.deaf).executed.wait(), MET_S_MAX)
    finally:
        proxy.heal()
    run.healed()
    if link.startswith("worker"):
        return
    await run.load.until_liked(30)
    assert run.load.unknown > before, "every voter has had an answer"
    if request == LIKES:
        await run.load.resolve()
        assert _executed_unheard(run), "no like was executed unheard"


async def _many_wait(run: Run) -> None:
    async def many() -> bool:
        return len(run.load.waiting(0)) >= 8

    await until(many, what="many voters wait")


for _name, _link, _request in (
    ("a batch of likes", "api0-store", LIKES),
    ("COMMIT", "worker0-postgres", COMMIT),
    ("a removal from the stream", "worker0-store", REMOVAL),
    ("a voter's like", "voters-api0", b"POST"),
):
    scenario(f"the reply to {_name} is lost")(partial(_reply_lost, link=_link, request=_request))


async def _taken_over(run: Run, *, link: str, request: bytes, seconds: float) -> None:
    first, proxy, began_s = run.world.workers[0], run.world.proxies[link], time.monotonic()
    try:
        await _met(proxy.set_at(request, Mode.stall))
        with stopped(first):
            await _end_its_sessions(run, at_least=1 if request == COMMIT else 0)
            async with run.load.quiet():
                await run.world.at_rest(run.document)  # by the other alone
                await asyncio.sleep(max(0.0, began_s + seconds - time.monotonic()))
            await run.load.until_liked(30)
            proxy.set(Mode.carry)  # what it had sent arrives now
    finally:
        proxy.heal()
    run.healed()


for _seconds, _smoke, _full in ((1, 1, 6), (30, 0, 2)):
    for _when, _link, _request in (("COMMIT", "worker0-postgres", COMMIT), ("a removal", "worker0-store", REMOVAL)):
        scenario(
            f"tally worker stopped {_seconds} s before {_when}, the other takes over, the first wakes",
            smoke=_smoke,
            full=_full,
        )(partial(_taken_over, link=_link, request=_request, seconds=_seconds))


async def _end_its_sessions(run: Run, *, at_least: int) -> None:
    """What the server does after `idle_in_transaction_session_timeout`, 60 s in the settings we ship.

    A worker has two shards in flight: stopped before the removal of one, it may be in the transaction of another.
    """
    began_s = time.monotonic()
    sessions = 0
    async with run.world.sql() as connection:

        async def ended() -> bool:
            nonlocal sessions
            sessions += await connection.fetchval(END_IDLE_SESSIONS)
            return sessions >= at_least and time.monotonic() - began_s > STOPPED_SEEN_S

        await until(ended, within_s=15, what="the stopped worker's sessions are idle in their transactions")


@scenario("half-open: the store forgets the connections of a vote API", full=6)
async def api_half_open(run: Run) -> None:
    proxy = run.world.proxies["api0-store"]
    await _met(proxy.set_at(LIKES, Mode.carry))
    before = run.load.unknown
    proxy.forsake()
    run.healed(0)  # new connections are carried; the API must find out by itself
    await run.load.until_unknown(before)
    refused = [a for a in run.load.attempts if a.heard is Heard.fail]
    assert not refused, f"refused, though nothing is known: {refused[0]}"


async def _worker_half_open(run: Run, *, link: str, request: bytes) -> None:
    proxy = run.world.proxies[link]
    await _met(proxy.set_at(request, Mode.carry))
    proxy.forsake()
    run.healed()
    # The other worker flushes meanwhile; this one waits for an answer as long as for a slow flush.
    await _round_succeeded(run.world.workers[0], time.time() + 1, within_s=5 * POSTGRES_TIMEOUT_S)


async def _round_succeeded(worker: Process, since_s: float, *, within_s: float) -> None:
    """Wait until a worker has flushed all shards, over connections that work, at a later Unix time."""

    def last_s() -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/metrics", timeout=5) as answer:
            found = re.search(rb"^dianzan_round_timestamp_seconds (\S+)$", answer.read(), re.MULTILINE)
        assert found, "the worker tells no time of a round"
        return float(found[1])

    async def succeeded() -> bool:
        return await asyncio.to_thread(last_s) > since_s

    await until(succeeded, within_s=within_s, what=f"{worker.module} flushes again")


for _link, _request in (("worker0-postgres", COMMIT), ("worker0-store", REMOVAL)):
    scenario(f"half-open: the server forgets {_link}", smoke=0, full=3)(
        partial(_worker_half_open, link=_link, request=_request)
    )
