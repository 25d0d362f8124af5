"""The role that the results API has: it reads what the public is shown, and no key and no like."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest

from dianzan.domain.errors import LedgerError
from dianzan.ledger.ledger import Ledger
from dianzan.local.stores import StoreAddresses
from dianzan.process.settings import Settings
from tests.support.casting import voter
from tests.support.ledger_rows import entry, insert, november, published
from tests.support.service import running
from tests.support.system import System
from tests.support.wait import until

ROLE, PASSWORD = 'reader "of" results', "it's one"
FORBIDDEN = [
    "SELECT secret FROM campaigns",
    "SELECT * FROM campaigns",
    "SELECT voter FROM likes",
    "SELECT * FROM likes_1_20261121",
    "UPDATE sealed_tallies SET likes = 1",
    "INSERT INTO counts VALUES (1, 1, 0, 1)",
    "CREATE TABLE mine (id int)",
    "COPY campaigns (id) TO PROGRAM 'true'",
]


@pytest.fixture
async def reader_url(empty_database_url: str) -> AsyncIterator[str]:
    """The address of a database with a campaign, for the role."""
    ledger = await Ledger.connect(empty_database_url)
    await ledger.migrate()
    campaign = await published(ledger, november(id="shown"))
    await insert(ledger, campaign, entry((voter("a"), [1, 2])))
    await ledger.make_reader(ROLE, "an earlier one")
    await ledger.make_reader(ROLE, PASSWORD)
    parts = urlsplit(empty_database_url)
    yield urlunsplit(parts._replace(netloc=f"reader%20%22of%22%20results:it's%20one@{parts.hostname}:{parts.port}"))
    await ledger.aclose()
    sql = await asyncpg.connect(empty_database_url, ssl=False)
    await sql.execute("""DROP OWNED BY "reader ""of"" results"; DROP ROLE "reader ""of"" results\"""")
    await sql.close()


@pytest.mark.parametrize("query", FORBIDDEN)
async def test_it_is_refused_everything_else(reader_url: str, query: str) -> None:
    sql = await asyncpg.connect(reader_url, ssl=False)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sql.execute(query)
    await sql.close()


async def test_the_results_api_serves_with_it(reader_url: str, tmp_path: Path) -> None:
    stores = StoreAddresses(Settings().redis_url, reader_url)
    async with running("results_api", stores, tmp_path) as results, httpx.AsyncClient() as http:

        async def shown() -> bool:
            answer = await http.get(f"{results.url}/v1/campaigns/shown/results")
            return answer.status_code == httpx.codes.OK and answer.json()["likes"] == 2

        await until(shown, within_s=15, what="the likes are shown")


async def test_a_role_that_is_not_there_is_named(empty_database_url: str) -> None:
    ledger = await Ledger.connect(empty_database_url)
    await ledger.migrate()

    with pytest.raises(LedgerError, match="no role 'nobody_at_all': CREATE ROLE nobody_at_all LOGIN"):
        await ledger.grant_reader("nobody_at_all")
    await ledger.aclose()


def _database_url_of(pid: int) -> str:
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    [url] = [line.partition(b"=")[2].decode() for line in environment if line.startswith(b"DIANZAN_DATABASE_URL=")]
    return url


async def test_the_results_api_of_dianzan_up_has_neither_key_nor_superuser(system: System) -> None:
    url = _database_url_of(system.pid_of("results_api"))
    assert url != system.stores.database_url
    sql = await asyncpg.connect(url, ssl=False)

    assert json.loads(await sql.fetchval("SELECT rules FROM campaigns LIMIT 1"))
    assert await sql.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await sql.fetchval("SELECT secret FROM campaigns")
    await sql.close()
