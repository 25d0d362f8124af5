"""The running system of a scenario: stores and services as real processes, a proxy on every link."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import asyncpg
from loadtests.system import free_port, own_environment
from redis.asyncio import Redis

from dianzan.cli.stores import Stores, open_stores
from dianzan.domain.campaign import Document
from dianzan.domain.errors import StoreError
from dianzan.life.recount import recount
from dianzan.local.cluster import ValkeyCluster
from dianzan.local.folder import database_url, redis_url
from dianzan.local.postgres import PostgresServer
from dianzan.local.server import Server
from dianzan.local.standby import PostgresPair
from dianzan.local.stores import StoreAddresses
from dianzan.local.valkey import ValkeyServer
from dianzan.store.nodes import open_client
from tests.faults.checker import Truth
from tests.faults.http import get
from tests.faults.processes import Process, crash
from tests.faults.proxy import Proxy
from tests.support.client import candidates, rules
from tests.support.wait import until

ROSTER = 6
COMMAND_S_MAX = 60.0


@asynccontextmanager
async def sql(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """An operator's connection to a PostgreSQL, past every proxy."""
    connection = await asyncpg.connect(url, ssl=False)
    try:
        yield connection
    finally:
        await connection.close()


@dataclass
class World:
    """Two vote APIs, two workers, a results API, a store and PostgreSQL. `proxies` are named `voters-api0`,
    `api0-store`, `worker1-postgres`, ….

    Operators' commands (`stores`) reach the stores directly, the services only through their proxies.
    """

    folder: Path
    store_servers: list[Server]
    postgres: PostgresServer
    addresses: StoreAddresses
    replicated: bool = False
    proxies: dict[str, Proxy] = field(default_factory=dict)
    apis: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    results: Process | None = None
    _stores: Stores | None = None

    @property
    def stores(self) -> Stores:
        assert self._stores is not None
        return self._stores

    @property
    def processes(self) -> list[Process]:
        return [*self.apis, *self.workers, *([self.results] if self.results else [])]

    @property
    def valkey(self) -> Server:
        """The only store server."""
        [valkey] = self.store_servers
        return valkey

    def sql(self) -> AbstractAsyncContextManager[asyncpg.Connection[asyncpg.Record]]:
        """An operator's connection to the ledger, past every proxy of a service."""
        return sql(self.addresses.database_url)

    def client(self, server: Server | None = None) -> Redis:
        """An operator's client of a store server, past every proxy; to be used in `async with`."""
        return open_client(redis_url((server or self.valkey).folder))

    @property
    def voter_ports(self) -> list[int]:
        """Where voters reach each vote API: its proxy."""
        return [self.proxies[f"voters-api{n}"].port for n in range(len(self.apis))]

    async def command(self, *words: str, **settings: str) -> tuple[int, str]:
        """Run an operator's command as a process of its own: its exit code, negative for a signal, and its output."""
        urls = {"DIANZAN_REDIS_URL": self.addresses.redis_url, "DIANZAN_DATABASE_URL": self.addresses.database_url}
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dianzan.cli", *words),
            env=own_environment({**urls, **settings}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(COMMAND_S_MAX):
                printed, _ = await running.communicate()
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
        return running.returncode or 0, printed.decode()

    async def new_campaign(self, **changes: object) -> Document:
        """Publish a campaign of one window, and wait until every API process serves it."""
        wanted = rules(**{"window": "campaign", "likes_per_window": 3, "shards": 4, **changes})
        await self.stores.store.find_nodes()
        await self.stores.lifecycle.create(wanted)
        await self.stores.lifecycle.import_candidates(wanted.id, candidates(ROSTER))
        document = await self.stores.lifecycle.publish(wanted.id)
        await asyncio.gather(
            *(self._knows(process, wanted.id) for process in self.processes if process not in self.workers)
        )
        return document

    async def published(self, campaign: str) -> dict[str, int]:
        """Likes per candidate as the results API gives them now. Raises OSError or EOFError where it gives none."""
        assert self.results is not None
        status, body = await get(self.results.port, f"/v1/campaigns/{campaign}/results")
        if status != HTTPStatus.OK:
            raise ConnectionError(f"the results API answers {status}")
        return {row["code"]: row["likes"] for row in body["results"]}

    async def at_rest(self, document: Document, *, within_s: float = 30.0) -> None:
        """Wait until the workers have emptied every stream, and the results show it."""
        stored = await self.stores.lifecycle.stored(document.rules.id)

        async def drained() -> bool:
            try:
                await self.stores.store.find_nodes()
                waiting = await self.stores.store.streams.backlog(stored.shards)
            except StoreError:
                return False
            return all(entries == 0 for entries in waiting)  # None: the shard's server does not answer

        await until(drained, within_s=within_s, what="the streams are empty")

        async def shown() -> bool:
            # Counted at each look: without its unique key a ledger still grows by what a late flush inserts again.
            total = sum((await self.stores.ledger.recounts.counts(stored)).values())
            return sum((await self.published(stored.id)).values()) == total

        await until(shown, within_s=within_s, what="every like in the counts is published")

    async def truth(self, document: Document, published: list[tuple[float, Mapping[str, int]]]) -> Truth:
        """What the stores hold, and the last published numbers."""
        stored = await self.stores.lifecycle.stored(document.rules.id)
        day = document.rules.window_at(document.rules.opens_ms).day
        codes = dict(enumerate(document.candidates, 1))
        counted = await recount(self.stores.store, self.stores.ledger, stored)
        rows = await self.rows(stored.number)
        return Truth(
            quota=document.rules.likes_per_window,
            receipt_of=lambda code, voter: document.key.receipt(day, document.index_of[code], voter),
            ledger=[(codes[candidate], voter) for candidate, voter in rows],
            counts={codes[index]: likes for index, likes in counted.counts.items()},
            store={codes[index]: likes for index, likes in counted.store.items()},
            published=[*published, (time.monotonic(), await self.published(document.rules.id))],
        )

    async def rows(self, number: int, url: str = "") -> list[tuple[int, bytes]]:
        """Candidate and voter of every row of a campaign, in the ledger or in that at `url`."""
        async with sql(url or self.addresses.database_url) as connection:
            found = await connection.fetch("SELECT candidate, voter FROM likes WHERE campaign = $1", number)
        return [(row["candidate"], row["voter"]) for row in found]

    async def _knows(self, process: Process, campaign: str) -> None:
        path = f"/v1/campaigns/{campaign}" + ("" if process is self.results else "/likes/mine")

        async def known() -> bool:
            try:
                return (await get(process.port, path))[0] != HTTPStatus.NOT_FOUND
            except (OSError, EOFError):
                return False

        await until(known, within_s=20, what=f"{process.module} knows campaign {campaign}")

    async def heal(self) -> None:
        """Make the world whole after a cycle that broke off in the middle of its fault."""
        for proxy in self.proxies.values():
            proxy.heal()
        for server in [*self.store_servers, self.postgres]:
            if not server.is_running:
                await crash(server)
        for process in self.processes:
            process.kill()
            process.start()
        for process in self.processes:
            await process.answers()

    async def proxy(self, name: str, url: str) -> str:
        """Put a proxy before an address; the address to use instead."""
        self.proxies[name], address = await Proxy.before(url)
        return address

    async def add(self, kind: str, name: str) -> Process:
        """Define one service; it is not started yet."""
        mode = "replicated" if self.replicated else "one-node"
        store = self.addresses.redis_url
        # A cluster's nodes name each other's addresses, so no proxy can stand before them.
        redis = store if "," in store else await self.proxy(f"{name}-store", store)
        environment = {"DIANZAN_REDIS_URL": redis, "DIANZAN_STORE_MODE": mode}
        environment["DIANZAN_DATABASE_URL"] = await self.proxy(f"{name}-postgres", self.addresses.database_url)
        port = free_port()
        if kind == "vote_api":
            proxy = self.proxies[f"voters-{name}"] = Proxy("127.0.0.1", port)
            await proxy.start()
        setting = {"vote_api": "VOTE", "tally_worker": "WORKER", "results_api": "RESULTS"}[kind]
        environment[f"DIANZAN_{setting}_PORT"] = str(port)
        return Process(kind, port, environment, self.folder / f"{name}.log")


@asynccontextmanager
async def running(*servers: Server | ValkeyCluster | PostgresPair) -> AsyncIterator[None]:
    """Servers that run for the length of the block; each is stopped, however far the start came."""
    try:
        for server in servers:
            await asyncio.to_thread(server.start)
        yield
    finally:
        for server in reversed(servers):
            await asyncio.to_thread(server.stop)


async def _nothing(_world: World) -> None:
    """A world needs no preparation."""


@asynccontextmanager
async def serving(world: World, prepare: Callable[[World], Awaitable[None]] = _nothing) -> AsyncIterator[World]:
    """A world whose services run for the length of the block; `prepare` is given them before any starts."""
    async with open_stores(world.addresses) as stores:
        world._stores = stores
        await stores.prepare()
        world.apis = [await world.add("vote_api", f"api{n}") for n in range(2)]
        world.workers = [await world.add("tally_worker", f"worker{n}") for n in range(2)]
        world.results = await world.add("results_api", "results")
        await prepare(world)
        try:
            for process in world.processes:
                process.start()
            for process in world.processes:
                await process.answers()
            yield world
        finally:
            for process in world.processes:
                process.kill()
            for proxy in world.proxies.values():
                await proxy.aclose()


@asynccontextmanager
async def single_world(folder: Path, prepare: Callable[[World], Awaitable[None]] = _nothing) -> AsyncIterator[World]:
    """One Valkey, the one-node promise."""
    valkey, postgres = ValkeyServer(folder / "valkey", 0, []), PostgresServer(folder / "postgres", 0, [])
    async with running(valkey, postgres):
        addresses = StoreAddresses(redis_url(valkey.folder), database_url(postgres.folder))
        async with serving(World(folder, [valkey], postgres, addresses), prepare) as world:
            yield world
