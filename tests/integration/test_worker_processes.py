"""Two real worker processes, one killed again and again while likes are cast: no like lost, none counted twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from dianzan.ledger.ledger import Ledger
from dianzan.store.like_link import LikeLink
from tests.support.casting import Model, voter
from tests.support.guards import LogWatch
from tests.support.system import free_port
from tests.support.wait import until
from tests.support.way import Way, make_way

# Processes are slow to start, and what differs between servers is tested without them.
pytestmark = pytest.mark.parametrize("postgres_url", ["postgres-wheel"], indirect=True)


@pytest.fixture
async def database_url(empty_database_url: str) -> str:
    """A database of the test's own: these workers look at every campaign, also at what other tests broke on purpose."""
    ledger = await Ledger.connect(empty_database_url)
    await ledger.migrate()
    await ledger.aclose()
    return empty_database_url


SEED = 20
KILLS = 3
BATCHES_MAX = 20_000


class Worker:
    """A `python -m tally_worker` of this test's own; its log is kept over all its lives."""

    def __init__(self, redis_url: str, database_url: str, log: Path) -> None:
        self.port, self._log = free_port(), log
        self._environment = {
            **os.environ,
            "DIANZAN_REDIS_URL": redis_url,
            "DIANZAN_DATABASE_URL": database_url,
            "DIANZAN_WORKER_PORT": str(self.port),
            "DIANZAN_FLUSH_EVERY_S": "0.01",
        }
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tally_worker"], env=self._environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL, and start again."""
        self.process.kill()
        assert self.process.wait(10) == -signal.SIGKILL
        self.process = self._start()

    def stop(self) -> bool:
        """SIGTERM; whether it ended in order. Having stopped in order, uvicorn lets the signal end the process."""
        self.process.terminate()
        ended = self.process.wait(20) in (0, -signal.SIGTERM)
        return ended and "Application shutdown complete" in self._log.read_text(encoding="utf-8")

    async def ready(self) -> bool:
        """Whether its loop has made a round."""
        async with httpx.AsyncClient() as http:
            try:
                return (await http.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200
            except httpx.TransportError:
                return False


@contextmanager
def workers(redis_url: str, database_url: str, folder: Path) -> Iterator[list[Worker]]:
    """Two workers; none is left behind."""
    started = [Worker(redis_url, database_url, folder / f"worker{n}.log") for n in range(2)]
    try:
        yield started
    finally:
        for worker in started:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait(10)


async def cast_until(stop: asyncio.Event, way: Way, draw: random.Random) -> Model:
    """Cast random ballots, some again and again, and keep what was counted."""
    print(f"seed {SEED}")  # noqa: T201 pytest shows it with a failure
    model = Model(way.document.rules.likes_per_window)
    for _ in range(BATCHES_MAX):
        if stop.is_set():
            return model
        # Half of them are of few voters, who soon like again what they have liked.
        some = [(voter(draw.randrange(limit)), draw.sample(range(1, 6), 2)) for limit in (100, 1_000_000) * 25]
        expected = sum(outcome.statuses.count(b"c") for outcome in model.cast(some))
        assert await way.cast(*some) == expected
    raise AssertionError(f"the workers needed more than {BATCHES_MAX} batches")


async def test_a_worker_killed_again_and_again_under_load_costs_nothing(
    *, valkey: Redis, valkey_url: str, ledger: Ledger, valkey_link: LikeLink, database_url: str, tmp_path: Path
) -> None:
    way = await make_way(valkey, ledger, valkey_link, shards=4)
    stop = asyncio.Event()
    with workers(valkey_url, database_url, tmp_path) as (steady, victim):
        casting = asyncio.create_task(cast_until(stop, way, random.Random(SEED)))
        for _ in range(KILLS):
            await until(victim.ready, within_s=20, what="the worker flushes again")
            await until_more(way, 500)
            victim.kill()
        stop.set()
        model = await casting

        async def drained() -> bool:
            return not any(await way.store.streams.backlog(way.campaign.shards))

        await until(drained, within_s=20, what="the streams are empty")
        await until(victim.ready, within_s=20, what="the last life is ready")
        assert steady.stop()
        assert victim.stop()

    await way.check(model.counts)
    recorded = [(candidate, hashed) async for _day, candidate, hashed in ledger.likes.record(way.campaign)]
    assert set(recorded) == {(candidate, hashed) for _day, candidate, hashed in model.identities(0)}
    assert LogWatch(tmp_path).new_errors() == []


async def until_more(way: Way, likes: int) -> None:
    """Wait until the ledger has grown by so many likes."""
    before = sum((await way.in_ledger()).values())

    async def grown() -> bool:
        return sum((await way.in_ledger()).values()) >= before + likes

    await until(grown, within_s=20, what="the ledger grows")


@pytest.mark.timeout(60)
async def test_a_worker_that_is_asked_to_stop_ends_its_flush_and_leaves_the_rest(
    *, valkey: Redis, valkey_url: str, ledger: Ledger, valkey_link: LikeLink, database_url: str, tmp_path: Path
) -> None:
    way = await make_way(valkey, ledger, valkey_link, shards=4)
    with workers(valkey_url, database_url, tmp_path) as both:
        await until(both[0].ready, within_s=20, what="the first is ready")
        await until(both[1].ready, within_s=20, what="the second is ready")
        counted = 0
        for start in range(0, 2_000, 200):
            counted += await way.cast(*((voter(n), [1]) for n in range(start, start + 200)))
        assert all(worker.stop() for worker in both)

    await way.flush()
    await way.check({1: counted})
