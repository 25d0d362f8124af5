"""Faults at one exact moment: a proxy waits for a request to come by, and breaks its link there."""

from __future__ import annotations

import asyncio
import re
import signal
import time
import urllib.request

import asyncpg

from dianzan.domain.limits import POSTGRES_TIMEOUT_S
from tests.faults.checker import Identity, acknowledged
from tests.faults.journal import Heard
from tests.faults.proxy import Mode, Proxy
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import Process
from tests.support.wait import until

# What goes over the wire at the moment: to Postgres, to the store.
COMMIT, REMOVAL, LIKES = b"COMMIT", b"remove_v1", b"like_v1"
END_IDLE_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE state = 'idle in transaction' AND state_change < clock_timestamp() - interval '0.5 s'
"""
STOPPED_SEEN_S = 0.8  # by then every session that a stopped worker has left in a transaction is idle for 0.5 s


async def met(link: Proxy, request: bytes, mode: Mode, *, within_s: float = 15.0) -> None:
    """Wait until a request comes by, and change there what happens."""
    await asyncio.wait_for(link.set_at(request, mode).wait(), within_s)


def heard_of_later(run: Run) -> set[Identity]:
    """Likes that were executed unheard: no answer has called them counted, and a later one liked already."""
    attempts = run.load.journal.attempts
    told = {(code, a.voter) for a in attempts for code, (status, _) in a.results.items() if status == "counted"}
    return acknowledged(attempts) - told


def _reply_lost(name: str, link: str, request: bytes) -> None:
    @scenario(f"the reply to {name} is lost")
    async def fault(run: Run) -> None:
        proxy = run.world.proxies[link]
        before = run.load.unknown
        try:
            if request == LIKES:
                proxy.delay_s = 0.1
                await _many_wait(run)  # so that new likes, too, are in the batch
            await met(proxy, request, Mode.deaf)
            await asyncio.sleep(0.3)  # executed by now
        finally:
            proxy.heal()
        run.healed()
        if link.startswith("worker"):
            return
        await run.load.until_liked(30)
        assert run.load.unknown > before, "every voter has had an answer"
        if request == LIKES:
            await run.load.resolve()
            assert heard_of_later(run), "no like was executed unheard"


async def _many_wait(run: Run) -> None:
    async def many() -> bool:
        return sum(a.heard is None and a.api == 0 for a in run.load.journal.attempts) >= 8

    await until(many, what="many voters wait")


_reply_lost("a batch of likes", "api0-store", LIKES)
_reply_lost("COMMIT", "worker0-postgres", COMMIT)
_reply_lost("a removal from the stream", "worker0-store", REMOVAL)
_reply_lost("a voter's like", "voters-api0", b"POST")


def _taken_over(name: str, link: str, request: bytes, *, seconds: float, smoke: int, full: int) -> None:
    @scenario(
        f"tally worker stopped {seconds:.0f} s {name}, the other takes over, the first wakes", smoke=smoke, full=full
    )
    async def fault(run: Run) -> None:
        first = run.world.workers[0]
        proxy = run.world.proxies[link]
        began_s = time.monotonic()
        try:
            await met(proxy, request, Mode.stall)
            first.signal(signal.SIGSTOP)
            await _end_its_sessions(run, at_least=1 if request == COMMIT else 0)
            async with run.load.quiet():
                await run.world.at_rest(run.document)  # by the other alone
                await asyncio.sleep(max(0.0, began_s + seconds - time.monotonic()))
            await run.load.until_liked(30)
            proxy.set(Mode.carry)  # what it had sent arrives now
        finally:
            first.signal(signal.SIGCONT)
            proxy.heal()
        run.healed()


for _seconds, _smoke, _full in ((1.0, 1, 6), (30.0, 0, 2)):
    _taken_over("before COMMIT", "worker0-postgres", COMMIT, seconds=_seconds, smoke=_smoke, full=_full)
    _taken_over("before a removal", "worker0-store", REMOVAL, seconds=_seconds, smoke=_smoke, full=_full)


async def _end_its_sessions(run: Run, *, at_least: int) -> None:
    """What the server does after `idle_in_transaction_session_timeout`, 60 s in the settings we ship.

    A worker has two shards in flight: stopped before the removal of one, it may be in the transaction of another.
    """
    connection = await asyncpg.connect(run.world.addresses.database_url, ssl=False)
    began_s = time.monotonic()
    sessions = 0

    async def ended() -> bool:
        nonlocal sessions
        sessions += await connection.fetchval(END_IDLE_SESSIONS)
        return sessions >= at_least and time.monotonic() - began_s > STOPPED_SEEN_S

    try:
        await until(ended, within_s=15, what="the stopped worker's sessions are idle in their transactions")
    finally:
        await connection.close()


@scenario("half-open: the store forgets the connections of a vote API", full=6)
async def api_half_open(run: Run) -> None:
    proxy = run.world.proxies["api0-store"]
    await met(proxy, LIKES, Mode.carry)
    before = run.load.unknown
    proxy.forsake()
    run.healed(0)  # new connections are carried; the API must find out by itself

    async def unheard() -> bool:
        return run.load.unknown > before

    await until(unheard, within_s=15, what="a voter does not know")
    refused = [a for a in run.load.journal.attempts if a.heard is Heard.fail]
    assert not refused, f"refused, though nothing is known: {refused[0]}"


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


def _worker_half_open(link: str, request: bytes) -> None:
    @scenario(f"half-open: the server forgets {link}", smoke=0, full=3)
    async def fault(run: Run) -> None:
        proxy = run.world.proxies[link]
        await met(proxy, request, Mode.carry)
        proxy.forsake()
        run.healed()
        # The other worker flushes meanwhile; this one waits for an answer as long as for a slow flush.
        await _round_succeeded(run.world.workers[0], time.time() + 1, within_s=5 * POSTGRES_TIMEOUT_S)


_worker_half_open("worker0-postgres", COMMIT)
_worker_half_open("worker0-store", REMOVAL)
