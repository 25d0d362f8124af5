"""The embedded Valkey Cluster: real nodes formed, started, stopped, killed, copied, and left by a killed owner."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, RedisError, ResponseError

from dianzan.domain.campaign import Document
from dianzan.domain.errors import StoreError
from dianzan.domain.shard import Shard
from dianzan.domain.wire import shard_of
from dianzan.local.cluster import ClusterNode, ValkeyCluster, cluster_url
from dianzan.local.folder import read_password
from dianzan.local.stores import EmbeddedCluster, EmbeddedError, EmbeddedStores, find_stores
from dianzan.local.valkey import ValkeyServer
from dianzan.store import durability, keys
from dianzan.store.like_link import LikeLink
from dianzan.store.nodes import StoreNodes, connect
from dianzan.store.store import Store
from tests.support.casting import cast, document, voter
from tests.support.wait import until

FAILOVER_S_MAX = 15  # the node time-out of 3 s, an election of 1 s, and 2 cores that are busy
A = voter("a")
OWNER = """
import signal, sys
from pathlib import Path
from dianzan.local.stores import EmbeddedCluster
EmbeddedCluster(Path(sys.argv[1])).start()
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def running(folder: Path) -> Iterator[ValkeyCluster]:
    """A cluster that runs for the length of the block."""
    cluster = ValkeyCluster(folder, [])
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with running(tmp_path_factory.mktemp("北京 榜样") / "cluster") as started:
        yield started


@pytest.fixture
async def nodes(cluster: ValkeyCluster) -> AsyncIterator[StoreNodes]:
    """The cluster as the services see it."""
    opened = connect(cluster_url(cluster.folder), replicated=True)
    await Store(opened).load_library()
    yield opened
    await opened.aclose()


@pytest.fixture
async def campaign(nodes: StoreNodes) -> Document:
    made = document(shards=16)
    await Store(nodes).gates.open(made, made.rules.every_shard, first=True)
    return made


def replication(node: ClusterNode) -> dict[str, Any]:
    found: dict[str, Any] = node.ask("INFO", "replication")
    return found


def roles(cluster: ValkeyCluster) -> list[str]:
    return [replication(node)["role"] for node in cluster.nodes]


def holder(nodes: StoreNodes, campaign: Document, ballot_of: bytes) -> tuple[str, LikeLink]:
    """The address of the node that serves a voter, and a new link to it."""
    node = nodes.of(keys.gate(Shard(campaign.rules.id, shard_of(ballot_of, campaign.rules.shards))))
    return node.address, LikeLink(node.client, replicated=True)


async def like(nodes: StoreNodes, campaign: Document, ballot_of: bytes) -> str:
    """The status of a like of candidate 1, asked of the node that serves the voter."""
    _address, link = holder(nodes, campaign, ballot_of)
    try:
        [status] = await cast(link, campaign, (ballot_of, [1]))
    finally:
        await link.close()
    return status


async def test_three_primaries_with_a_replica_each_keep_every_promise_and_count_likes(
    cluster: ValkeyCluster, nodes: StoreNodes, campaign: Document
) -> None:
    assert sorted(roles(cluster)) == ["master"] * 3 + ["slave"] * 3
    primaries = nodes.all()
    assert len(primaries) == 3
    for primary in primaries:
        assert await durability.durability_gaps(primary.client, replicated=True) == []
    voters = [voter(number) for number in range(30)]
    assert len({holder(nodes, campaign, each)[0] for each in voters}) == 3

    assert {await like(nodes, campaign, each) for each in voters} == {"c"}
    assert {await like(nodes, campaign, each) for each in voters} == {"a"}


async def test_a_cluster_behind_one_address_is_known_by_what_its_server_says(cluster: ValkeyCluster) -> None:
    one = cluster_url(cluster.folder).split(",")[0]
    nodes = connect(one, replicated=True)
    try:
        await nodes.known()

        assert len(nodes.all()) == 3
    finally:
        await nodes.aclose()


def test_the_settings_of_every_node_are_in_force(cluster: ValkeyCluster) -> None:
    wanted = {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
        "cluster-enabled": "yes",
        "cluster-node-timeout": "3000",
        "cluster-require-full-coverage": "no",
        "cluster-allow-replica-migration": "no",
        "cluster-replica-validity-factor": "10",
        "cluster-announce-ip": "127.0.0.1",
        "repl-diskless-sync-delay": "0",
        "masterauth": read_password(cluster.folder),
        "requirepass": read_password(cluster.folder),
    }
    for node in cluster.nodes:
        own = wanted | {"cluster-port": str(node.bus_port), "dir": str(node.folder)}
        assert node.ask("CONFIG GET", *own) == own


async def test_a_stop_and_a_start_keep_likes_ports_and_roles(
    cluster: ValkeyCluster, nodes: StoreNodes, campaign: Document
) -> None:
    assert await like(nodes, campaign, A) == "c"
    before = [(node.port, node.bus_port) for node in cluster.nodes], roles(cluster)

    cluster.stop()
    again = ValkeyCluster(cluster.folder, [])
    again.start()
    try:
        assert ([(node.port, node.bus_port) for node in again.nodes], roles(again)) == before
        assert await like(nodes, campaign, A) == "a"
    finally:
        again.stop()
        cluster.start()


async def test_a_killed_primarys_replica_takes_over_with_every_like_and_it_returns_as_replica(
    cluster: ValkeyCluster, nodes: StoreNodes, campaign: Document
) -> None:
    assert await like(nodes, campaign, A) == "c"
    address, link = holder(nodes, campaign, A)
    await link.close()
    killed = next(node for node in cluster.nodes if address.endswith(f":{node.port}"))
    killed.kill()

    async def taken_over() -> bool:
        try:
            await nodes.refresh()
        except RedisError:
            return False
        return holder(nodes, campaign, A)[0] != address

    await until(taken_over, within_s=FAILOVER_S_MAX, what="the replica serves")
    killed.start()

    async def confirms() -> bool:
        try:
            return len(await Store(nodes).streams.read(Shard(campaign.rules.id, shard_of(A, 16)), 1)) == 1
        except (RedisError, StoreError):
            return False

    await until(confirms, within_s=FAILOVER_S_MAX, what="the old primary follows as replica")
    assert replication(killed)["role"] == "slave"
    assert await like(nodes, campaign, A) == "a"

    cluster.stop()
    cluster.start()
    assert replication(killed)["role"] == "slave", "roles are not forced back"
    assert await like(nodes, campaign, A) == "a"


async def test_a_replica_that_lost_its_data_is_not_elected_before_it_has_copied_its_primary(tmp_path: Path) -> None:
    with running(tmp_path / "cluster") as cluster:
        primary = next(node for node in cluster.nodes if replication(node)["role"] == "master")
        replica = next(node for node in cluster.nodes if replication(node).get("master_port") == primary.port)
        key = owned_key(primary)
        primary.ask("SET", key, "点赞")
        for node in (primary, replica):
            node.kill()
        shutil.rmtree(replica.folder / "appendonlydir")
        replica.start()

        async def refused() -> bool:
            return "unable to failover: Disconnected from primary for longer" in replica.log_path.read_text()

        await until(refused, within_s=FAILOVER_S_MAX, what="the empty replica does not stand for election")
        assert replication(replica)["role"] == "slave"
        primary.start()

        async def served() -> Any:
            for node in (primary, replica):  # the replica may be elected once it has everything
                try:
                    return node.ask("GET", key)
                except (ClusterDownError, MovedError):
                    continue
            return None

        assert await until(served, within_s=FAILOVER_S_MAX, what="somebody serves what was written") == "点赞"


@contextmanager
def cut_at_the_second(command: str, cut: BaseException) -> Iterator[None]:
    """Raise `cut` in the place of the second such command that any node is asked."""
    ask = ClusterNode.ask
    asked: list[str] = []

    def counted(node: ClusterNode, name: str, *arguments: str | int) -> Any:
        asked.append(name)
        if asked.count(command) == 2:
            raise cut
        return ask(node, name, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusterNode, "ask", counted)
        yield


@pytest.mark.parametrize("command", ["CLUSTER MEET", "CLUSTER ADDSLOTSRANGE", "CLUSTER REPLICATE"])
def test_a_first_start_that_was_cut_short_goes_on(tmp_path: Path, command: str) -> None:
    half = ValkeyCluster(tmp_path / "cluster", [])
    with cut_at_the_second(command, KeyboardInterrupt()), pytest.raises(KeyboardInterrupt):
        half.start()
    for node in half.nodes:
        node.kill()

    with running(tmp_path / "cluster") as whole:
        assert sorted(roles(whole)) == ["master"] * 3 + ["slave"] * 3


def test_a_step_of_the_first_start_that_a_node_refuses_is_a_sentence(tmp_path: Path) -> None:
    half = ValkeyCluster(tmp_path / "cluster", [])
    refused = cut_at_the_second("CLUSTER ADDSLOTSRANGE", ResponseError("busy"))
    try:
        with refused, pytest.raises(EmbeddedError, match=r"was not formed \(busy\): start again"):
            half.start()
    finally:
        half.stop()


def test_a_copied_folder_becomes_a_cluster_of_its_own_beside_the_original(
    cluster: ValkeyCluster, tmp_path: Path
) -> None:
    def reached(one: ValkeyCluster) -> set[int]:
        nodes = one.nodes[0].ask("CLUSTER NODES")
        return {int(address.rpartition(":")[2]) for address in nodes}

    shutil.copytree(cluster.folder, tmp_path / "copy")
    with running(tmp_path / "copy") as copy:
        own = {node.port for node in cluster.nodes}
        assert reached(copy) == {node.port for node in copy.nodes}
        assert reached(copy).isdisjoint(own)
        assert reached(cluster) == own


def test_a_node_that_cannot_start_is_named_with_its_log_and_nothing_is_left_running(tmp_path: Path) -> None:
    data = tmp_path / "data"
    manifest = data / "cluster/2/appendonlydir/appendonly.aof.manifest"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("no manifest\n")
    stores = EmbeddedCluster(data)

    with pytest.raises(EmbeddedError, match=r"(?s)Valkey node 2 \(process \d+\) ended with code 1.*manifest"):
        stores.start()

    for node in stores.cluster.nodes:
        assert not node.is_running


@pytest.mark.parametrize(("made_by", "said"), [("valkey", "without --cluster"), ("cluster", "with --cluster")])
def test_a_folder_made_the_other_way_is_refused(tmp_path: Path, made_by: str, said: str) -> None:
    (tmp_path / made_by).mkdir()
    other = EmbeddedCluster(tmp_path) if made_by == "valkey" else EmbeddedStores(tmp_path)

    with pytest.raises(EmbeddedError, match=f"start it {said}, or choose another folder with --data"), other:
        pass


def test_nodes_left_by_a_killed_owner_are_found_stopped_and_nothing_is_lost(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        left = [child for child in psutil.Process(owner.pid).children() if child.name() == "valkey-server"]
        owner.kill()
    try:
        assert len(left) == 6
        first, second, *_others = ValkeyCluster(tmp_path / "cluster", []).nodes
        dead = psutil.Process(int(first.ask("INFO", "server")["process_id"]))
        dead.kill()
        psutil.wait_procs([dead])
        found = find_stores(tmp_path)  # a cluster runs although one node does not
        assert found.replicated
        key = owned_key(second)
        second.ask("SET", key, "点赞")

        with EmbeddedCluster(tmp_path) as stores:
            assert len([notice for notice in stores.notices if notice.startswith("Stopped Valkey node")]) == 5
            assert stores.cluster.nodes[1].ask("GET", key) == "点赞"
            assert find_stores(tmp_path) == found
    finally:
        for process in left:
            if process.is_running():
                process.kill()


def owned_key(node: ClusterNode) -> str:
    """A key in one of the node's slots."""
    own = next(line for line in node.ask("CLUSTER NODES").values() if "myself" in line["flags"])
    first, last = map(int, own["slots"][0])
    return next(key for key in map(str, range(100_000)) if first <= key_slot(key.encode()) <= last)


async def test_a_replica_that_may_not_end_yet_is_asked_again(tmp_path: Path) -> None:
    """Valkey forgets a SIGTERM while it writes its first AOF after a full copy, here 2 s long."""
    notices: list[str] = []
    primary, replica = (ValkeyServer(tmp_path / name, 0, notices) for name in ("primary", "replica"))
    for server in (primary, replica):
        server.start()
    try:
        with primary.client() as client:
            client.config_set("repl-diskless-sync-delay", "0")
            client.mset({f"key{number}": "value" for number in range(200)})
        with replica.client() as client:
            client.config_set("rdb-key-save-delay", "10000")  # µs a key
            client.config_set("repl-diskless-load", "swapdb")  # else it may take the copy it got as its AOF
            client.config_set("masterauth", read_password(primary.folder))
            client.replicaof("127.0.0.1", str(primary.port))

            async def writes() -> bool:
                return client.info("replication")["master_link_status"] == "up" and bool(
                    client.info("persistence")["aof_rewrite_in_progress"]
                )

            await until(writes, what="the replica writes its first AOF")
        replica.stop()
        assert notices == [], "it did not have to be killed"
        assert "Writing initial AOF" in replica.log_path.read_text()
    finally:
        replica.stop()
        primary.stop()
