"""Fixtures of the store edges: servers of their own, one store emptied for each test, databases of their own."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from dianzan.ledger.ledger import Ledger
from dianzan.store.like_link import LikeLink
from dianzan.store.nodes import open_client
from dianzan.store.store import Store
from tests.simulation.wall import simulated_ledger, simulated_store
from tests.support.guards import leaked_keys
from tests.support.ledger_rows import november
from tests.support.nodes import one_server
from tests.support.servers import LEDGERS, SIMULATED, STORES, running_ledger, running_store

_databases = itertools.count(1)


@pytest.fixture(scope="session", params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of each kind of store in turn."""
    if request.param == SIMULATED:
        yield SIMULATED
        return
    with running_store(request.param, tmp_path_factory.mktemp("store") / "data") as url:
        yield url


@pytest.fixture(scope="session", params=LEDGERS)
def postgres_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of each kind of PostgreSQL in turn."""
    if request.param == SIMULATED:
        yield SIMULATED
        return
    with running_ledger(request.param, tmp_path_factory.mktemp("ledger") / "data") as url:
        yield url


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The wheel's Valkey, for tests whose subject is PostgreSQL."""
    with running_store("valkey-wheel", tmp_path_factory.mktemp("valkey") / "data") as url:
        yield url


async def _emptied(url: str) -> AsyncIterator[Redis]:
    client = open_client(url)
    await client.flushall()
    await Store(one_server(client)).load_library()
    yield client
    leaked = leaked_keys(url)
    await client.aclose()
    assert not leaked, f"keys without a place in keys.py: {leaked[:10]}"


@pytest.fixture
async def client(store_url: str) -> AsyncIterator[Redis]:
    """A client of an emptied store with the library loaded."""
    if store_url == SIMULATED:
        yield simulated_store()
        return
    async for opened in _emptied(store_url):
        yield opened


@pytest.fixture
async def valkey(valkey_url: str) -> AsyncIterator[Redis]:
    """A client of the wheel's Valkey, emptied."""
    async for opened in _emptied(valkey_url):
        yield opened


@pytest.fixture
def store(client: Redis) -> Store:
    """The store edge under test."""
    return Store(one_server(client))


@pytest.fixture
async def link(client: Redis) -> AsyncIterator[LikeLink]:
    """The like link under test."""
    opened = LikeLink(client)
    yield opened
    await opened.close()


@asynccontextmanager
async def _new_database(postgres_url: str) -> AsyncIterator[str]:
    name = f"test_{next(_databases)}"
    admin = await asyncpg.connect(postgres_url, ssl=False)
    await admin.execute(f"CREATE DATABASE {name}")
    yield urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """An empty database of the test's own."""
    async with _new_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """A migrated database, shared by tests that make campaigns of their own."""
    if postgres_url == SIMULATED:
        yield SIMULATED
        return
    async with _new_database(postgres_url) as url:
        opened = await Ledger.connect(url)
        await opened.migrate()
        await opened.aclose()
        yield url


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    """The ledger edge under test."""
    if database_url == SIMULATED:
        yield simulated_ledger(november())
        return
    opened = await Ledger.connect(database_url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to ask the tables themselves."""
    connection = await asyncpg.connect(database_url, ssl=False)
    yield connection
    await connection.close()


@pytest.fixture
async def valkey_link(valkey: Redis) -> AsyncIterator[LikeLink]:
    """A like link to the wheel's Valkey."""
    opened = LikeLink(valkey)
    yield opened
    await opened.close()
