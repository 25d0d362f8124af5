"""A primary and its replica: the replicated mode on two machines' worth of servers, behind addresses that can move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dianzan.domain.errors import StoreError
from dianzan.domain.shard import Shard
from dianzan.local.folder import database_url, make_folder, read_password, redis_url
from dianzan.local.postgres import PostgresServer
from dianzan.local.server import Server
from dianzan.local.stores import StoreAddresses
from dianzan.local.valkey import ValkeyServer
from tests.faults.proxy import Proxy
from tests.faults.world import World, running, serving
from tests.support.wait import until


@dataclass
class PairWorld(World):
    """`primary` and `replica` swap by `promote`; each server is copied from through a proxy of its own."""

    primary: Server = field(kw_only=True)
    replica: Server = field(kw_only=True)
    copied_through: dict[str, Proxy] = field(default_factory=dict)

    @property
    def replica_link(self) -> Proxy:
        """The link from which the replica copies now."""
        return self.copied_through[str(self.primary.folder)]

    def point(self, server: Server, *names: str) -> None:
        """Lead the named services (all, without names) to a server from now on, as an address that moves does."""
        wanted = [f"{name}-store" for name in names] or [name for name in self.proxies if name.endswith("-store")]
        for name in wanted:
            proxy = self.proxies[name]
            if proxy.target[1] != server.port:
                proxy.target = ("127.0.0.1", server.port)
                proxy.cut()

    async def follow(self, replica: Server, primary: Server) -> None:
        """Make one server the replica of the other, over the proxy that stands before the other."""
        link = self.copied_through[str(primary.folder)]
        link.target = ("127.0.0.1", primary.port)
        link.heal()
        async with self.client(replica) as client:
            await client.config_set("masterauth", read_password(primary.folder))
            await client.replicaof("127.0.0.1", str(link.port))

    async def promote(self) -> None:
        """Promote the replica; the old primary, wherever it is, keeps its own opinion."""
        async with self.client(self.replica) as client:
            await client.replicaof("NO", "ONE")
        self.primary, self.replica = self.replica, self.primary

    async def fail_over(self) -> None:
        """Lose the primary, promote its replica, and bring the old primary back as the new one's replica."""
        await asyncio.to_thread(self.primary.kill)
        await self.promote()
        await asyncio.to_thread(self.replica.start)
        await self.whole()

    async def whole(self) -> None:
        """Make the replica follow the primary again, and wait until its disk keeps up."""
        async with self.client(self.primary) as client:
            await client.replicaof("NO", "ONE")
            await client.config_set("repl-diskless-sync-delay", "0")
        await self.follow(self.replica, self.primary)
        self.point(self.primary)
        for node in self.stores.store._nodes.all():
            await node.client.connection_pool.disconnect()  # an operator's command begins with a new connection
        await until(self._confirms, within_s=30, what="the replica confirms")

    async def heal(self) -> None:
        """Both servers run, the replica follows, every service is new."""
        await super().heal()
        await self.whole()

    async def _confirms(self) -> bool:
        try:
            return await self.stores.store.streams.read(Shard("none", 0), 1) == []
        except StoreError:
            return False


@asynccontextmanager
async def pair_world(folder: Path) -> AsyncIterator[World]:
    """Two Valkey servers, one PostgreSQL, the replicated mode."""
    servers = [ValkeyServer(folder / name, 0, []) for name in ("valkey0", "valkey1")]
    postgres = PostgresServer(folder / "postgres", 0, [])
    for server in servers:
        make_folder(server.folder)
    (servers[1].folder / "password").write_text(read_password(servers[0].folder))
    async with running(*servers, postgres):
        operator, moving = await Proxy.before(redis_url(servers[0].folder))
        addresses = StoreAddresses(moving, database_url(postgres.folder), replicated=True)
        world = PairWorld(
            folder, list(servers), postgres, addresses, replicated=True, primary=servers[0], replica=servers[1]
        )
        world.proxies["operator-store"] = operator
        for server in servers:
            link = world.copied_through[str(server.folder)] = Proxy("127.0.0.1", server.port)
            await link.start()
        async with world.client(servers[0]) as primary:
            await primary.config_set("repl-diskless-sync-delay", "0")
        await world.follow(servers[1], servers[0])
        async with serving(world):
            await world.whole()
            yield world
        for link in world.copied_through.values():
            await link.aclose()


def pair_of(world: World) -> PairWorld:
    """The pair a scenario runs in."""
    assert isinstance(world, PairWorld)
    return world
