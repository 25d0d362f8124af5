"""The store servers of the integration tests: those of the wheels, and Debian's Redis 7.0 and PostgreSQL 15."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dianzan.local.folder import database_url, redis_url
from dianzan.local.postgres import PostgresServer
from dianzan.local.server import Server
from dianzan.local.valkey import ValkeyServer

REDIS_7_0 = Path("/usr/bin/redis-server")
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")

STORES = ("valkey-wheel", "redis-7.0")
LEDGERS = ("postgres-wheel", "postgres-15")
SIMULATED = "simulated"

# A test that holds the simulation's store, or ledger, to the real ones: it runs on each of them, and asserts the same.
on_every_ledger = pytest.mark.parametrize("postgres_url", [*LEDGERS, SIMULATED], indirect=True, scope="session")
on_every_store = pytest.mark.parametrize("store_url", [*STORES, SIMULATED], indirect=True, scope="session")


class DebianRedis(ValkeyServer):
    """Debian's server on the same settings, which Redis 7.0 and Valkey share."""

    name = "Redis 7.0"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0, [])
        self._binary = REDIS_7_0


class DebianPostgres(PostgresServer):
    """Debian's server, started and unprivileged like the wheel's."""

    name = "PostgreSQL 15"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 0, [])
        self._binaries = POSTGRES_15


@contextmanager
def running_store(kind: str, folder: Path) -> Iterator[str]:
    """The address of a store server that runs for the length of the block; skips where it is not installed."""
    if kind == "valkey-wheel":
        server: Server = ValkeyServer(folder, 0, [])
    else:
        _skip_unless(REDIS_7_0.is_file(), "Debian's redis-server is not installed (apt install redis-server)")
        server = DebianRedis(folder)
    with _running(server):
        yield redis_url(folder)


@contextmanager
def running_ledger(kind: str, folder: Path) -> Iterator[str]:
    """The address of a PostgreSQL that runs for the length of the block; skips where it is not installed."""
    if kind == "postgres-wheel":
        server: Server = PostgresServer(folder, 0, [])
    else:
        installed = (POSTGRES_15 / "postgres").is_file()
        _skip_unless(installed, "Debian's PostgreSQL 15 is not installed (apt install postgresql-15)")
        server = DebianPostgres(folder)
    with _running(server):
        yield database_url(folder)


@contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


def _skip_unless(installed: bool, reason: str) -> None:
    if not installed:
        pytest.skip(reason)
