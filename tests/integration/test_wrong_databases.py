"""A database that cannot serve ends a command or a service in one sentence, which names what to do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from loadtests.system import free_port, own_environment
from redis.asyncio import Redis

from tests.support.commands import command

NEWER = "INSERT INTO migrations (name) VALUES ('9999_newer.sql')"


@pytest.fixture
def redis_url(valkey: Redis, valkey_url: str) -> str:
    return valkey_url


@pytest.fixture
async def admin(empty_database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    opened = await asyncpg.connect(empty_database_url, ssl=False)
    yield opened
    await opened.close()


async def _said(words: tuple[str, ...], redis_url: str, database_url: str) -> str:
    """The one sentence that a command ends with."""
    stores = {"DIANZAN_REDIS_URL": redis_url, "DIANZAN_DATABASE_URL": database_url}
    done = await asyncio.to_thread(command, *words, within=own_environment(stores))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("?schema=mine", "if it is a parameter of DIANZAN_DATABASE_URL, take it out"),
        ("?sslmode=perhaps", "DIANZAN_DATABASE_URL cannot be used"),
        ("?connect_timeout=soon", "connect_timeout is 'soon'"),
    ],
)
async def test_a_parameter_that_nobody_knows(redis_url: str, empty_database_url: str, wrong: str, said: str) -> None:
    assert said in await _said(("migrate",), redis_url, empty_database_url + wrong)


async def test_a_comma_in_the_stores_password(empty_database_url: str) -> None:
    said = await _said(("migrate",), "redis://:Ab,9x@127.0.0.1/0", empty_database_url)

    assert "a comma in a password is written %2C" in said
    assert "DIANZAN_REDIS_URL" in said


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_chinese(
    redis_url: str, empty_database_url: str, admin: asyncpg.Connection[asyncpg.Record], encoding: str
) -> None:
    name = f"in_{encoding.lower()}"
    await admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        url = urlunsplit(urlsplit(empty_database_url)._replace(path=f"/{name}"))
        assert f"holds text as {encoding}" in await _said(("migrate",), redis_url, url)
    finally:
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_role_that_may_create_nothing(
    redis_url: str, empty_database_url: str, admin: asyncpg.Connection[asyncpg.Record]
) -> None:
    await admin.execute("CREATE ROLE poor LOGIN PASSWORD 'poor'")
    try:
        parts = urlsplit(empty_database_url)
        url = urlunsplit(parts._replace(netloc=f"poor:poor@{parts.hostname}:{parts.port}"))
        said = await _said(("migrate",), redis_url, url)
        assert "The role of DIANZAN_DATABASE_URL may not do this (permission denied" in said
        assert "deploy/README.md" in said
    finally:
        await admin.execute("DROP OWNED BY poor; DROP ROLE poor")


@pytest.mark.parametrize("module", ["tally_worker", "results_api"])
@pytest.mark.parametrize("wrong", ["scheme", "newer tables", "unknown parameter"])
async def test_a_service_does_not_start_and_says_why(
    redis_url: str, empty_database_url: str, admin: asyncpg.Connection[asyncpg.Record], module: str, wrong: str
) -> None:
    stores = {"DIANZAN_REDIS_URL": redis_url, "DIANZAN_DATABASE_URL": empty_database_url}
    assert (await asyncio.to_thread(command, "migrate", within=own_environment(stores))).returncode == 0
    if wrong == "newer tables":
        await admin.execute(NEWER)
    url, said = {
        "scheme": (empty_database_url.replace("postgresql", "postgresql+asyncpg"), "begins with postgresql+asyncpg://"),
        "newer tables": (empty_database_url, "9999_newer.sql, which this release does not know"),
        "unknown parameter": (f"{empty_database_url}?schema=mine", "if it is a parameter of DIANZAN_DATABASE_URL"),
    }[wrong]
    ports = {"DIANZAN_WORKER_PORT": str(free_port()), "DIANZAN_RESULTS_PORT": str(free_port())}

    started = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", module],
        env=own_environment({**stores, **ports, "DIANZAN_DATABASE_URL": url}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert started.returncode == 1
    assert said in started.stdout + started.stderr
    assert "Traceback" not in started.stdout + started.stderr


@pytest.mark.parametrize("module", ["vote_api", "tally_worker"])
async def test_a_service_with_no_address_of_a_store_does_not_start(module: str) -> None:
    wrong = {"DIANZAN_REDIS_URL": "redis://:Ab,9x@127.0.0.1/0", "DIANZAN_VOTE_PORT": str(free_port())}

    started = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", module],
        env=own_environment(wrong),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert started.returncode == 1
    assert "is DIANZAN_REDIS_URL right?" in started.stdout + started.stderr
    assert "Traceback" not in started.stdout + started.stderr
