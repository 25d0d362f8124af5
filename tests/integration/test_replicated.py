"""The replicated mode on real servers: what a replica does not hold is not answered `counted`, and not flushed."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dianzan.domain.campaign import Document
from dianzan.domain.errors import RulesMoved, StoreError, StoreUnavailable, StoreUnsafe
from dianzan.domain.limits import BACKLOG_BYTES_MAX
from dianzan.domain.shard import Shard
from dianzan.local.folder import read_password, redis_url
from dianzan.local.server import Server
from dianzan.local.valkey import ValkeyServer
from dianzan.store import durability, keys
from dianzan.store.like_link import LikeLink
from dianzan.store.nodes import StoreNodes, connect, open_client
from dianzan.store.store import Store
from tests.simulation import pair as simulation
from tests.simulation.wall import simulated_pair
from tests.support.casting import Ballot, call_of, cast, document, voter
from tests.support.nodes import one_server
from tests.support.servers import REDIS_7_0, SIMULATED, DebianRedis
from tests.support.store_state import configured
from tests.support.wait import until
from vote_api.store.watch import StoreWatch

A, B = voter("a"), voter("b")
KINDS = ("valkey-wheel", "redis-7.0")  # the second has no WAITAOF


# A test that holds the simulation's pairs to the real ones.
on_every_pair = pytest.mark.parametrize("pair", [*KINDS, SIMULATED], indirect=True, scope="module")


@dataclass
class Pair(ABC):
    """A primary and its replica, which may be stopped for a while."""

    nodes: StoreNodes
    primary: Redis
    replica: Redis

    @abstractmethod
    def deaf_replica(self) -> AbstractContextManager[None]:
        """The replica does nothing for the length of the block; its connections stay open."""

    async def in_step(self) -> bool:
        return not await durability.durability_gaps(self.primary, replicated=True)

    async def confirms(self) -> bool:
        """Whether the replica's disk keeps up too: it does not while it rewrites its file after a full copy."""
        try:
            return await self.in_step() and await Store(self.nodes).streams.read(Shard("none", 0), 1) == []
        except StoreError:
            return False


@dataclass
class RealPair(Pair):
    """Two processes; the replica's is stopped."""

    primary_port: int
    replica_server: Server

    @contextmanager
    def deaf_replica(self) -> Iterator[None]:
        os.kill(self.replica_server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.replica_server.pid, signal.SIGCONT)


@dataclass
class SimulatedPair(Pair):
    """Two simulated servers; the link between them is cut."""

    servers: simulation.Pair

    @contextmanager
    def deaf_replica(self) -> Iterator[None]:
        self.servers.cut()
        try:
            yield
        finally:
            self.servers.mend()


@pytest.fixture(scope="module", params=KINDS)
async def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    if request.param == SIMULATED:
        one, other, linked = simulated_pair()
        yield SimulatedPair(one_server(one, replicated=True), one, other, linked)
        return
    folder = tmp_path_factory.mktemp("pair")
    servers = [_server(request.param, folder / name) for name in ("primary", "replica")]
    for server in servers:
        server.start()
    nodes = connect(redis_url(servers[0].folder), replicated=True)
    [primary], replica = nodes.all(), open_client(redis_url(servers[1].folder))
    found = RealPair(nodes, primary.client, replica, servers[0].port, servers[1])
    await Store(nodes).load_library()
    await primary.client.config_set("repl-diskless-sync-delay", "0")
    await replica.config_set("masterauth", read_password(servers[0].folder))
    # The two know each other's password, as a pair that is to change places does.
    await replica.execute_command("ACL SETUSER", "default", f">{read_password(servers[0].folder)}")  # type: ignore[no-untyped-call]
    await replica.replicaof("127.0.0.1", str(servers[0].port))
    await until(found.confirms, what="the replica confirms")
    yield found
    await nodes.aclose()
    await replica.aclose()
    for server in reversed(servers):  # a primary that ends waits for its replica
        server.stop()


def _server(kind: str, folder: Path) -> Server:
    if kind == "valkey-wheel":
        return ValkeyServer(folder, 0, [])
    if not REDIS_7_0.is_file():
        pytest.skip("Debian's redis-server is not installed (apt install redis-server)")
    return DebianRedis(folder)


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "REPLICA_WAIT_MS", 200)


@pytest.fixture
def store(pair: Pair) -> Store:
    return Store(pair.nodes)


@pytest.fixture
async def campaign(pair: Pair, store: Store) -> Document:
    await until(pair.confirms, what="the replica confirms")
    made = document(shards=1)
    await store.gates.open(made, made.rules.every_shard, first=True)
    return made


@pytest.fixture
async def link(pair: Pair) -> AsyncIterator[LikeLink]:
    opened = LikeLink(pair.primary, replicated=True)
    yield opened
    await opened.close()


async def is_unknown(link: LikeLink, campaign: Document, ballot: Ballot) -> bool:
    """Whether a ballot sent now is answered "ask again"."""
    [reply] = await link.send([call_of(campaign, [ballot])])
    return isinstance(reply, StoreUnavailable)


@on_every_pair
async def test_a_counted_like_is_on_the_replica(pair: Pair, campaign: Document, link: LikeLink) -> None:
    assert await cast(link, campaign, (A, [1, 2])) == ["cc"]

    assert await pair.replica.hgetall(keys.counts(Shard(campaign.rules.id, 0))) == {b"1": b"1", b"2": b"1"}


@on_every_pair
async def test_a_like_that_no_replica_holds_is_unknown_until_one_does(
    pair: Pair, campaign: Document, link: LikeLink
) -> None:
    await cast(link, campaign, (B, [1]))
    with pair.deaf_replica():
        assert await is_unknown(link, campaign, (A, [1]))

    assert await cast(link, campaign, (A, [1])) == ["a"]


@on_every_pair
async def test_a_repeat_on_another_connection_is_not_answered_before_the_replica_holds_the_first(
    pair: Pair, campaign: Document, link: LikeLink
) -> None:
    other = LikeLink(pair.primary, replicated=True)
    await cast(link, campaign, (B, [1]))
    await cast(other, campaign, (B, [2]))
    with pair.deaf_replica():
        assert await is_unknown(link, campaign, (A, [1]))
        assert await is_unknown(other, campaign, (A, [1]))

    assert await cast(other, campaign, (A, [1])) == ["a"]
    await other.close()


@on_every_pair
async def test_a_refusal_stays_what_it_is_where_no_replica_confirms(
    pair: Pair, store: Store, campaign: Document, link: LikeLink
) -> None:
    stale = campaign.model_copy(update={"version": campaign.version - 1})
    with pair.deaf_replica():
        [refused] = await link.send([call_of(stale, [(A, [1])])])
    assert isinstance(refused, RulesMoved)


@on_every_pair
async def test_a_worker_reads_only_what_a_replica_holds(
    pair: Pair, store: Store, campaign: Document, link: LikeLink
) -> None:
    await cast(link, campaign, (A, [1]))
    with pair.deaf_replica(), pytest.raises(StoreError):
        await store.streams.read(Shard(campaign.rules.id, 0), 10)

    assert len(await store.streams.read(Shard(campaign.rules.id, 0), 10)) == 1


@on_every_pair
async def test_a_gate_is_not_closed_before_the_replica_has_closed_it(
    pair: Pair, store: Store, campaign: Document
) -> None:
    with pair.deaf_replica(), pytest.raises(StoreError):
        await store.gates.close(campaign.rules.every_shard)

    await store.gates.close(campaign.rules.every_shard)
    assert await pair.replica.get(keys.gate(Shard(campaign.rules.id, 0))) == b"closed"


async def test_likes_are_refused_before_they_are_sent_while_no_replica_is_in_step(
    pair: RealPair, campaign: Document
) -> None:
    watch = StoreWatch(pair.nodes, allow_weak_store=False, backlog_bytes_max=BACKLOG_BYTES_MAX)
    [node] = pair.nodes.all()
    link = LikeLink(node.client, replicated=True, on_open=partial(watch.recheck, node))
    host, port = (await pair.replica.info("replication"))["master_host"], str(pair.primary_port)
    await pair.replica.replicaof("NO", "ONE")
    try:

        async def alone() -> bool:
            return not await pair.in_step()

        await until(alone, what="the primary has lost its replica")
        await watch.refresh()
        assert "0 replicas are connected" in watch.reasons[0]
        with pytest.raises(StoreUnsafe):
            await cast(link, campaign, (A, [1]))
        assert await pair.primary.exists(keys.counts(Shard(campaign.rules.id, 0))) == 0
    finally:
        await pair.replica.replicaof(host, port)
        await link.close()


@on_every_pair
async def test_a_replica_takes_no_likes_itself(pair: Pair) -> None:
    assert "this server is a replica: likes go to the primary" in await durability.durability_gaps(
        pair.replica, replicated=True
    )


@pytest.mark.parametrize("pair", ["redis-7.0"], indirect=True, scope="module")
async def test_a_replica_whose_fsync_cannot_be_waited_for_must_be_set_right_itself(pair: Pair) -> None:
    await until(pair.in_step, what="the replica is in step")

    async with configured(pair.replica, "appendfsync", "everysec"):
        [broken] = await durability.durability_gaps(pair.primary, replicated=True)
    assert broken == "the replica's appendfsync is 'everysec': set it to always"

    async with configured(pair.replica, "appendonly", "no"):
        [broken] = await durability.durability_gaps(pair.primary, replicated=True)
    assert broken == "the replica's appendonly is 'no': set it to yes"


@pytest.mark.parametrize("pair", ["redis-7.0"], indirect=True, scope="module")
async def test_a_replica_that_cannot_be_asked_holds_nothing_that_counts(pair: Pair) -> None:
    await until(pair.in_step, what="the replica is in step")
    where = pair.primary.connection_pool.connection_kwargs
    await pair.primary.acl_setuser("other", enabled=True, passwords=["+secret"], categories=["+@all"], keys=["*"])
    nodes = connect(f"redis://other:secret@{where['host']}:{where['port']}/0", replicated=True)
    try:
        [broken] = await durability.durability_gaps(nodes.all()[0].client, replicated=True)
    finally:
        await nodes.aclose()
        await pair.primary.acl_deluser("other")

    assert "the replica's settings cannot be read" in broken
    assert "before Redis 7.2 the replicated mode needs that" in broken
