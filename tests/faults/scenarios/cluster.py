"""Faults of a Valkey Cluster of three primaries and three replicas: failover, fail-back, and nodes that come back."""

from __future__ import annotations

import asyncio
import os
import signal
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
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.faults.world import World, serving
from tests.support.wait import until

FAILOVER_S_MAX = 15.0


@asynccontextmanager
async def cluster_world(folder: Path) -> AsyncIterator[World]:
    """Six Valkey nodes, one PostgreSQL, the replicated mode."""
    cluster, postgres = ValkeyCluster(folder / "cluster", []), PostgresServer(folder / "postgres", 0, [])
    try:
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(postgres.start)
        addresses = StoreAddresses(cluster_url(cluster.folder), database_url(postgres.folder), replicated=True)
        world = World(folder, list(cluster.nodes), postgres, addresses, replicated=True)
        async with serving(world):
            yield world
    finally:
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(cluster.stop)


def _nodes(run: Run) -> list[ClusterNode]:
    return [node for node in run.world.store_servers if isinstance(node, ClusterNode)]


async def _serving(run: Run) -> ClusterNode:
    """The node that serves a shard of the campaign now, the shard drawn by the run."""
    store = run.world.stores.store
    await store.find_nodes()
    gate = keys.gate(Shard(run.campaign, run.rng.randrange(run.document.rules.shards)))
    address = store._nodes.of(gate).address
    return next(node for node in _nodes(run) if address.endswith(f":{node.port}"))


async def _replica_of(run: Run, primary: ClusterNode) -> ClusterNode:
    own = await asyncio.to_thread(primary.ask, "CLUSTER MYID")
    for node in _nodes(run):
        if node is not primary and node.is_running:
            lines = await asyncio.to_thread(node.ask, "CLUSTER NODES")
            if any("myself" in line["flags"] and line["master_id"] == own for line in lines.values()):
                return node
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
    primary = await _serving(run)
    replica = await _replica_of(run, primary)
    run.healed()  # from the very kill on: the cluster heals itself
    await asyncio.to_thread(primary.kill)
    await _promoted(replica)
    await asyncio.to_thread(primary.start)


@scenario("cluster: primary back faster than the node time-out", world=cluster_world, likes=600)
async def fast_restart(run: Run) -> None:
    primary = await _serving(run)
    await asyncio.to_thread(primary.kill)
    run.healed()
    await asyncio.to_thread(primary.start)


@scenario("cluster: ordered failover, and back", world=cluster_world, likes=600)
async def there_and_back(run: Run) -> None:
    first = await _serving(run)
    second = await _replica_of(run, first)
    for node in (second, first):
        await asyncio.to_thread(node.ask, "CLUSTER FAILOVER")
        await _promoted(node)
        await run.load.until_liked(100)
    run.healed()


@scenario("cluster: replica killed -9, and back", world=cluster_world, likes=600)
async def replica_killed(run: Run) -> None:
    replica = await _replica_of(run, await _serving(run))
    await asyncio.to_thread(replica.kill)
    await run.load.until_liked(100)  # the other servers' voters
    run.healed()
    await asyncio.to_thread(replica.start)


@scenario("cluster: primary stopped (SIGSTOP) until its replica is elected, then wakes", world=cluster_world, likes=600)
async def stopped(run: Run) -> None:
    run.serving_s_max = FAILOVER_S_MAX
    primary = await _serving(run)
    replica = await _replica_of(run, primary)
    os.kill(primary.pid, signal.SIGSTOP)
    try:
        await _promoted(replica)
    finally:
        os.kill(primary.pid, signal.SIGCONT)  # it believes to be primary still, and has clients
    run.healed()


@scenario("cluster: a primary and its replica killed -9, both back", world=cluster_world, likes=600, full=6)
async def both_killed(run: Run) -> None:
    run.serving_s_max = FAILOVER_S_MAX
    primary = await _serving(run)
    replica = await _replica_of(run, primary)
    for node in (replica, primary):
        await asyncio.to_thread(node.kill)
    await run.load.until_liked(50)  # the other servers' voters
    run.healed()
    for node in (primary, replica):
        await asyncio.to_thread(node.start)
