"""Stores from wheels on a folder, ready for campaigns, and services on them: bench and rehearsal stand on this."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dianzan.cli.stores import Stores, open_stores
from dianzan.local.folder import HOST
from dianzan.local.stores import EmbeddedStores, StoreAddresses
from dianzan.local.supervisor import Service, Supervisor
from loadtests.system import free_port

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class OwnStores:
    """Running stores and where they listen."""

    embedded: EmbeddedStores
    addresses: StoreAddresses


@contextmanager
def opened(folder: Path) -> Iterator[OwnStores]:
    """Start both stores on a folder, with tables and functions, and stop them in the end."""
    embedded = EmbeddedStores(folder)
    addresses = embedded.start()
    try:
        _print(embedded.notices)
        work(addresses, Stores.prepare)
        yield OwnStores(embedded, addresses)
    finally:
        embedded.stop()


@dataclass(frozen=True, slots=True)
class Server:
    """A service that runs: its port, its process, and whether it lives."""

    name: str
    port: int
    pid: int
    death: Callable[[], str | None] = lambda: None


@contextmanager
def serving(
    folder: Path, module: str, port_name: str, addresses: StoreAddresses, *, wait: bool = True, **settings: str
) -> Iterator[Server]:
    """Run a module with logs and notes in a folder, and wait until it is ready; one left there ends first.

    Its settings are production's, except the addresses, the drain and those given.
    """
    port, supervisor = free_port(), Supervisor(folder, HOST)
    environment = {
        "DIANZAN_DRAIN_S": "0",  # nothing is in front of it that would notice
        "DIANZAN_REDIS_URL": addresses.redis_url,
        "DIANZAN_DATABASE_URL": addresses.database_url,
        "DIANZAN_STORE_MODE": "one-node",
        "DIANZAN_HOST": HOST,
        port_name: str(port),
    }
    supervisor.stop_leftovers()
    _print(supervisor.notices)
    try:
        supervisor.start(Service(module, port, "", {**environment, **settings}))
        if wait:
            supervisor.wait_ready(threading.Event())
        yield Server(module, port, supervisor.pid(module), supervisor.poll)
    finally:
        supervisor.stop()


def work(addresses: StoreAddresses, do: Callable[[Stores], Awaitable[Answer]]) -> Answer:
    """Do something with both stores through the project's own edges."""

    async def with_stores() -> Answer:
        async with open_stores(addresses) as stores:
            return await do(stores)

    return asyncio.run(with_stores())


def _print(notices: list[str]) -> None:
    for notice in notices:
        print(notice)
