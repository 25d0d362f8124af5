"""Faults of a Valkey Cluster of three primaries and three replicas: failover, fail-back, and nodes that come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.exceptions import RedisError

from dianzan.domain.shard import Shard
from dianzan.local.cluster import ClusterNode, ValkeyCluster, cluster_url
from dianzan.local.folder import database_url
from dianzan.local.postgres import PostgresServer
from dianzan.local.stores import StoreAddresses
from dianzan.store import keys
from tests.faults.processes import stopped
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import World, running, serving
from tests.support.wait import until

FAILOVER_S_MAX = 15.0


@asynccontextmanager
async def cluster_world(folder: Path) -> AsyncIterator[World]:
    """Six Valkey nodes, one PostgreSQL, the replicated mode."""
    cluster, postgres = ValkeyCluster(folder / "cluster", []), PostgresServer(folder / "postgres", 0, [])
    async with running(cluster, postgres):
        addresses = StoreAddresses(cluster_url(cluster.folder), database_url(postgres.folder), replicated=True)
        async with serving(World(folder, list(cluster.nodes), postgres, addresses, replicated=True)) as world:
            yield world


async def _serving(run: Run) -> tuple[ClusterNode, ClusterNode]:
    """The node that serves a shard of the campaign now, the shard drawn by the run, and its replica."""
    store = run.world.stores.store
    await store.find_nodes()
    gate = keys.gate(Shard(run.campaign, run.rng.randrange(run.document.rules.shards)))
    address = store._nodes.of(gate).address
    nodes = [node for node in run.world.store_servers if isinstance(node, ClusterNode)]
    primary = next(node for node in nodes if address.endswith(f":{node.port}"))
    own = await asyncio.to_thread(primary.ask, "CLUSTER MYID")
    for node in nodes:
        if node is not primary and node.is_running:
            lines = await asyncio.to_thread(node.ask, "CLUSTER NODES")
            if any("myself" in line["flags"] and line["master_id"] == own for line in lines.values()):
                return primary, node
    raise AssertionError(f"{primary.name} has no replica")


async def _promoted(node: ClusterNode) -> None:
    async def primary() -> bool:
        try:
            return bool((await asyncio.to_thread(node.ask, "INFO", "replication"))["role"] == "master")
        except RedisError:
            return False

    await until(primary, within_s=FAILOVER_S_MAX, what=f"{node.name} is promoted")


@scenario("cluster: primary killed -9, its replica is elected, the old one comes back", world=cluster_world, likes=600)
async def failover(run: Run) -> None:
    run.serving_s_max = FAILOVER_S_MAX
    primary, replica = await _serving(run)
    run.healed()  # from the very kill on: the cluster heals itself
    await asyncio.to_thread(primary.kill)
    await _promoted(replica)
    await asyncio.to_thread(primary.start)


@scenario("cluster: primary back faster than the node time-out", world=cluster_world, likes=600)
async def fast_restart(run: Run) -> None:
    primary, _replica = await _serving(run)
    await asyncio.to_thread(primary.kill)
    run.healed()
    await asyncio.to_thread(primary.start)


@scenario("cluster: ordered failover, and back", world=cluster_world, likes=600)
async def there_and_back(run: Run) -> None:
    first, second = await _serving(run)
    for node in (second, first):
        await asyncio.to_thread(node.ask, "CLUSTER FAILOVER")
        await _promoted(node)
        await run.load.until_liked(100)
    run.healed()


@scenario("cluster: replica killed -9, and back", world=cluster_world, likes=600)
async def replica_killed(run: Run) -> None:
    _primary, replica = await _serving(run)
    await asyncio.to_thread(replica.kill)
    await run.load.until_liked(100)  # the other servers' voters
    run.healed()
    await asyncio.to_thread(replica.start)


@scenario("cluster: primary stopped (SIGSTOP) until its replica is elected, then wakes", world=cluster_world, likes=600)
async def primary_stopped(run: Run) -> None:
    run.serving_s_max = FAILOVER_S_MAX
    primary, replica = await _serving(run)
    with stopped(primary):
        await _promoted(replica)
    run.healed()  # it believes to be primary still, and has clients


@scenario("cluster: a primary and its replica killed -9, both back", world=cluster_world, likes=600, full=6)
async def both_killed(run: Run) -> None:
    run.serving_s_max = FAILOVER_S_MAX
    primary, replica = await _serving(run)
    for node in (replica, primary):
        await asyncio.to_thread(node.kill)
    await run.load.until_liked(50)  # the other servers' voters
    run.healed()
    for node in (primary, replica):
        await asyncio.to_thread(node.start)
