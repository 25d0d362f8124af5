"""Everything that speaks to Postgres, through the real PgBouncer in transaction mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from loadtests.system import own_environment
from redis.asyncio import Redis

from dianzan.domain.errors import LedgerError
from dianzan.ledger.ledger import Ledger
from dianzan.local.stores import StoreAddresses
from dianzan.store.like_link import LikeLink
from tests.support.commands import command
from tests.support.pooler import pooled
from tests.support.service import running
from tests.support.wait import until
from tests.support.way import ballots, make_way


@pytest.fixture
async def pooler(empty_database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    async with pooled(empty_database_url, tmp_path) as url:
        yield url


async def test_without_the_parameter_a_sentence_names_it(pooler: str) -> None:
    ledger = await Ledger.connect(pooler, connections_max=1)
    await ledger.now()  # its statement is now prepared on the pooler's only session
    other = await asyncpg.connect(pooler, ssl=False, statement_cache_size=0)

    async with other.transaction():
        await other.fetchval("SELECT 1")  # which another client has until it commits
        with pytest.raises(LedgerError, match=r"add \?pgbouncer=true to DIANZAN_DATABASE_URL"):
            await ledger.now()
    await other.close()
    await ledger.aclose()


async def test_a_campaign_is_counted_sealed_and_recounted(
    pooler: str, valkey: Redis, valkey_url: str, valkey_link: LikeLink
) -> None:
    stores = {"DIANZAN_DATABASE_URL": f"{pooler}?pgbouncer=true", "DIANZAN_REDIS_URL": valkey_url}
    migrated = await asyncio.to_thread(command, "migrate", within=own_environment(stores))
    assert migrated.stdout.startswith("applied 0001"), migrated.stderr
    ledger = await Ledger.connect(stores["DIANZAN_DATABASE_URL"])
    way = await make_way(valkey, ledger, valkey_link, shards=8)

    await way.cast(*ballots(0, 40))
    await way.killed("flush.after_commit")  # so that they are read again, by way of the staging table
    await way.cast(*ballots(40, 80))
    await asyncio.gather(*(way.flush() for _ in range(3)))

    await way.check(dict.fromkeys(range(1, 6), 32))
    _counted, seal = await way.sealer.seal(way.campaign.id, drain_s_max=5)
    assert (seal.likes, seal.people) == (160, 80)
    recounted = await asyncio.to_thread(command, "recount", way.campaign.id, within=own_environment(stores))
    assert recounted.stdout.endswith("equal\n"), recounted.stdout + recounted.stderr
    # Each process names its cursor's statement as the one before did.
    for _ in range(6):
        record = await asyncio.to_thread(command, "record", way.campaign.id, within=own_environment(stores))
        assert len(record.stdout.splitlines()) == 161, record.stderr
    await ledger.aclose()


async def test_worker_and_results_api_serve(
    pooler: str, valkey: Redis, valkey_url: str, valkey_link: LikeLink, tmp_path: Path
) -> None:
    addresses = StoreAddresses(valkey_url, f"{pooler}?pgbouncer=true")
    ledger = await Ledger.connect(addresses.database_url)
    await ledger.migrate()
    way = await make_way(valkey, ledger, valkey_link, shards=8)
    await way.cast(*ballots(0, 40))

    async with (
        running("tally_worker", addresses, tmp_path),
        running("results_api", addresses, tmp_path) as results,
        httpx.AsyncClient() as http,
    ):

        async def shown() -> bool:
            answer = await http.get(f"{results.url}/v1/campaigns/{way.campaign.id}/results")
            return answer.status_code == httpx.codes.OK and answer.json()["likes"] == 80

        await until(shown, within_s=15, what="the likes are shown")
    await ledger.aclose()
