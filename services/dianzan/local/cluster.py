"""Owns the embedded Valkey Cluster: three primaries and three replicas in one folder, formed once, then just started.

Who is primary is the nodes' own affair from then on: a start after a failover finds the roles swapped and leaves them.
"""

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import RedisError

from dianzan.local.folder import (
    HOST,
    EmbeddedError,
    claim_port,
    make_folder,
    read_password,
    redis_url,
    sync_folder,
    write_private,
)
from dianzan.local.processes import POLL_S
from dianzan.local.valkey import ValkeyServer

PRIMARIES: Final = 3  # the fewest that can elect a replica while one of them is down
NODES: Final = range(1, 2 * PRIMARIES + 1)  # the names of the nodes' folders
FORM_S_MAX: Final = 30.0  # 1 s is usual
IN_STEP_S_MAX: Final = 120.0  # a primary waits 2 s by itself; a replica copies its primary's data, up to some GB

# 3 s to be found dead, then an election: another serves within 5 s, and a pause of the machine elects nobody.
# No replica migrates: each primary has exactly one, so what that one has confirmed is never missing after an election.
# The factor keeps a replica that has not once been in step since its start, and may be empty, from being elected.
CLUSTER_CONF: Final = """\
cluster-enabled yes
cluster-config-file nodes.conf
cluster-port {bus_port}
cluster-announce-ip {host}
cluster-node-timeout 3000
cluster-require-full-coverage no
cluster-allow-replica-migration no
cluster-replica-validity-factor 10
masterauth {password}
repl-diskless-sync-delay 0
"""


class ClusterNode(ValkeyServer):
    """One node; its second port is the one on which nodes talk to each other."""

    def __init__(self, folder: Path, notices: list[str]) -> None:
        super().__init__(folder, 0, notices)
        self.name = f"Valkey node {folder.name}"
        self.bus_port = 0
        self.map_path = folder / "nodes.conf"

    def _settings(self) -> str:
        cluster = CLUSTER_CONF.format(bus_port=self.bus_port, host=HOST, password=read_password(self.folder))
        return super()._settings() + cluster

    def ask(self, command: str, *arguments: str | int) -> Any:
        """A command's reply. Raises redis.RedisError."""
        with self.client() as client:
            return client.execute_command(command, *arguments)


@dataclass(frozen=True)
class _Role:
    """What a node says of itself; `follows` is its primary's id."""

    id: str
    follows: str | None
    slots: list[tuple[int, int]]


class ValkeyCluster:
    """All nodes on one folder. `notices` are sentences for the operator."""

    def __init__(self, folder: Path, notices: list[str]) -> None:
        self.folder = folder
        self.nodes = [ClusterNode(place, notices) for place in node_folders(folder)]
        self._formed = folder / "formed"

    def start(self) -> None:
        """Start all nodes, form the cluster where that is not done, wait until each primary's replica is in step.

        On a failure some may be left running: `stop` ends them.
        """
        self._make_folders()
        self._claim_ports()
        self._tell_ports()
        _side_by_side(ClusterNode.start, self.nodes)
        try:
            if not self._formed.exists():
                self._form()
            self._wait(self._not_in_step, IN_STEP_S_MAX)
            if not self._formed.exists():
                self._note_formed()
        except RedisError as error:
            raise EmbeddedError(
                f"The Valkey cluster in {self.folder} was not formed ({error}): start again."
            ) from error

    def stop(self) -> None:
        """Stop replicas, then primaries: a primary that ends waits for its replica."""
        primaries = [node for node in self.nodes if _is_primary(node)]
        _side_by_side(ClusterNode.stop, [node for node in self.nodes if node not in primaries])
        _side_by_side(ClusterNode.stop, primaries)

    def stop_leftovers(self) -> None:
        """Stop what an earlier owner of this folder, killed by SIGKILL, left running."""
        _side_by_side(ClusterNode.stop_leftovers, self.nodes)

    def _make_folders(self) -> None:
        make_folder(self.folder)
        password = read_password(self.folder)
        for node in self.nodes:
            node.folder.mkdir(mode=0o700, exist_ok=True)
            write_private(node.folder / "password", password)

    def _claim_ports(self) -> None:
        """All before any node starts, so that none takes another's."""
        taken: set[int] = set()
        for node in self.nodes:
            node.port = claim_port(node.folder, node.name, node.port, taken=taken)
            taken.add(node.port)
            node.bus_port = claim_port(node.folder, node.name, node.bus_port, file="bus_port", taken=taken)
            taken.add(node.bus_port)

    def _tell_ports(self) -> None:
        """Write where each node is now into all their maps.

        Nodes would find one that has moved, but not all of them; and those of a copied folder would join the original.
        """
        maps = {node: node.map_path.read_text() for node in self.nodes if node.map_path.exists()}
        for node, own in maps.items():
            if found := re.search(r"^(\w+) \S+ \S*\bmyself\b", own, re.MULTILINE):
                place = re.compile(rf"^{found[1]} [^ ,]*", re.MULTILINE)
                now = f"{found[1]} {HOST}:{node.port}@{node.bus_port}"
                maps = {other: place.sub(now, text) for other, text in maps.items()}
        for node, text in maps.items():
            if text != node.map_path.read_text():
                write_private(node.map_path, text)

    def _form(self) -> None:
        """Make one cluster of the nodes. Each step looks first, so that it goes on after a kill in the middle."""
        self._wait(self._not_met, FORM_S_MAX)
        roles = self._roles()
        served = {slot for role in roles.values() for first, last in role.slots for slot in range(first, last + 1)}
        for place, node in enumerate(self.nodes[:PRIMARIES]):
            first, end = (REDIS_CLUSTER_HASH_SLOTS * part // PRIMARIES for part in (place, place + 1))
            if served.isdisjoint(range(first, end)):
                node.ask("CLUSTER ADDSLOTSRANGE", first, end - 1)
        roles = self._roles()
        followed = {role.follows for role in roles.values()}
        bare = [role.id for role in roles.values() if role.slots and role.id not in followed]
        idle = [node for node, role in roles.items() if not role.slots and not role.follows]
        for node, primary in zip(idle, bare, strict=False):
            node.ask("CLUSTER REPLICATE", primary)

    def _note_formed(self) -> None:
        """From now on a start leaves slots and roles alone."""
        for node in self.nodes:
            node.ask("CLUSTER SAVECONFIG")  # synced, which not every change by itself is
        write_private(self._formed, "")
        sync_folder(self.folder)

    def _roles(self) -> dict[ClusterNode, _Role]:
        return {node: _role(node) for node in self.nodes}

    def _not_met(self) -> str | None:
        """Introduce the nodes to the first one; None once all know all, which they tell each other."""
        ids = {node: role.id for node, role in self._roles().items()}
        known = {node: _known(node) for node in self.nodes}
        first = self.nodes[0]
        for node in self.nodes[1:]:
            if ids[node] not in known[first] or ids[first] not in known[node]:
                first.ask("CLUSTER MEET", HOST, node.port, node.bus_port)
        strangers = [node.name for node in self.nodes if not known[node].issuperset(ids.values())]
        return f"{strangers[0]} does not know all others" if strangers else None

    def _not_in_step(self) -> str | None:
        return next((f"{node.name}: {reason}" for node in self.nodes if (reason := _not_in_step(node))), None)

    def _wait(self, look: Callable[[], str | None], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while (reason := _reason(look)) is not None:
            if death := next(filter(None, (node.death() for node in self.nodes)), None):
                raise EmbeddedError(f"{death}\nRepair what its log names, then start again.")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"The Valkey cluster in {self.folder} was not ready within {limit_s:g} s ({reason}): start again; "
                    "the nodes' folders there hold their logs."
                )
            time.sleep(POLL_S)


def cluster_url(folder: Path) -> str:
    """The addresses of all nodes, whichever run."""
    return ",".join(redis_url(place) for place in node_folders(folder))


def node_folders(folder: Path) -> list[Path]:
    """Where each node keeps its port and its data."""
    return [folder / str(number) for number in NODES]


def _side_by_side(work: Callable[[ClusterNode], None], nodes: Sequence[ClusterNode]) -> None:
    """Do it for all nodes at once; what one raises is raised when all are done."""
    with ThreadPoolExecutor(len(NODES)) as pool:
        list(pool.map(work, nodes))


def _reason(look: Callable[[], str | None]) -> str | None:
    try:
        return look()
    except RedisError as error:
        return str(error)


def _is_primary(node: ClusterNode) -> bool:
    """False if it does not run or answer."""
    try:
        return node.is_running and node.ask("INFO", "replication")["role"] == "master"
    except RedisError:
        return False


def _role(node: ClusterNode) -> _Role:
    own = next(line for line in node.ask("CLUSTER NODES").values() if "myself" in line["flags"])
    follows = None if own["master_id"] == "-" else own["master_id"]
    return _Role(own["node_id"], follows, [(int(part[0]), int(part[-1])) for part in own["slots"]])


def _known(node: ClusterNode) -> set[str]:
    lines = node.ask("CLUSTER NODES").values()
    return {line["node_id"] for line in lines if "handshake" not in line["flags"]}


def _not_in_step(node: ClusterNode) -> str | None:
    """None if a node serves and, with its partner, confirms at once; otherwise what is missing."""
    with node.client() as client:
        cluster = client.execute_command("CLUSTER INFO")
        info: Any = {**client.info("replication"), **client.info("persistence")}
    if cluster["cluster_state"] != "ok" or int(cluster["cluster_slots_ok"]) < REDIS_CLUSTER_HASH_SLOTS:
        return f"cluster_state is {cluster['cluster_state']}, {cluster['cluster_slots_ok']} slots are served"
    if info["role"] == "slave" and info["master_link_status"] != "up":
        return "it is not in step with its primary"
    if info["role"] == "master" and (info["connected_slaves"] != 1 or info["slave0"]["state"] != "online"):
        return f"{info['connected_slaves']} replicas are connected"
    # A replica's disk does not confirm while it writes its first file after a full copy.
    rewriting = info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]
    return "it writes its first AOF" if rewriting else None
