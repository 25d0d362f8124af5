"""PostgreSQL is lost with its machine, and its synchronous standby takes its place."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dianzan.local.folder import database_url, redis_url
from dianzan.local.standby import STANDBY, PostgresPair, PostgresStandby
from dianzan.local.stores import StoreAddresses
from dianzan.local.valkey import ValkeyServer
from tests.faults.proxy import Proxy
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.scenarios.postgres import every_like_went_on
from tests.faults.world import World, running, serving, sql
from tests.support.wait import until


@dataclass
class StandbyWorld(World):
    """`postgres` is the primary; whoever asks for it comes through `moving`, which leads to the one promoted."""

    standby: PostgresStandby = field(kw_only=True)
    moving: Proxy = field(kw_only=True)
    copies: int = 0

    async def promote(self) -> None:
        """Lose the primary with its disk, and lead everybody to the standby."""
        await self.lose_primary()
        await self.lead_to_standby()

    async def leave_behind(self) -> None:
        """From now on the standby receives nothing, and nobody waits for it."""
        async with sql(database_url(self.postgres.folder)) as connection:
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            await connection.execute("SELECT pg_reload_conf()")
        await asyncio.to_thread(self.standby.kill)

    async def lose_primary(self) -> None:
        """Lose the primary with its disk."""
        await asyncio.to_thread(self.postgres.kill)
        await asyncio.to_thread(self.postgres.stop_leftovers)
        await asyncio.to_thread(shutil.rmtree, self.postgres.folder / "cluster")

    async def lead_to_standby(self) -> None:
        """Promote the standby, and lead everybody to it."""
        await asyncio.to_thread(self.standby.promote)
        self.postgres = self.standby
        self.moving.target = ("127.0.0.1", self.postgres.port)
        self.moving.cut()

    async def pair_again(self) -> None:
        """Give the new primary a synchronous standby of its own."""
        self.copies += 1
        self.standby = PostgresStandby(self.folder / f"standby{self.copies}", self.postgres, [])
        await asyncio.to_thread(self.standby.start)
        async with sql(database_url(self.postgres.folder)) as connection:
            await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")
            await connection.execute("SELECT pg_reload_conf()")

            async def in_step() -> bool:
                return bool(await connection.fetchval("SELECT sync_state = 'sync' FROM pg_stat_replication"))

            await until(in_step, within_s=30, what="the new standby is in step")


@asynccontextmanager
async def standby_world(folder: Path) -> AsyncIterator[World]:
    """One Valkey, and PostgreSQL with a synchronous standby behind an address that can move."""
    valkey = ValkeyServer(folder / "valkey", 0, [])
    pair = PostgresPair(folder / "postgres", folder / "standby0", [])
    async with running(valkey, pair):
        moving, address = await Proxy.before(database_url(pair.primary.folder))
        addresses = StoreAddresses(redis_url(valkey.folder), address)
        world = StandbyWorld(folder, [valkey], pair.primary, addresses, standby=pair.standby, moving=moving)
        try:
            async with serving(world):
                yield world
        finally:
            await moving.aclose()
            for server in (world.postgres, world.standby):
                await asyncio.to_thread(server.stop)


@scenario("PostgreSQL lost with its disk, its synchronous standby promoted", world=standby_world, full=5)
async def failed_over(run: Run) -> None:
    world, began_s = run.world, time.monotonic()
    assert isinstance(world, StandbyWorld)
    await world.promote()
    every_like_went_on(run, began_s)
    await world.pair_again()
    run.healed()
