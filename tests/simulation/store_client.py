"""What production code holds of redis-py, over simulated servers: clients, pipelines, the raw connection, the nodes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from hiredis import Reader
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as TimedOut

from dianzan.domain.errors import StoreAway
from dianzan.store.nodes import Node
from tests.simulation.patches import STORE_TIMEOUT_S
from tests.simulation.store_server import Session

if TYPE_CHECKING:
    from tests.simulation.store_cluster import Cluster

_NAMED = {
    "xrange",
    "get",
    "hget",
    "hgetall",
    "hlen",
    "xlen",
    "pfadd",
    "pfcount",
    "incr",
    "unlink",
    "info",
    "time",
    "xtrim",
}
_TWO_WORDS = {"memory_usage": b"MEMORY USAGE", "config_get": b"CONFIG GET", "fcall_ro": b"FCALL_RO"}


def _lost(reason: str) -> Exception:
    return TimedOut(reason) if "in time" in reason else Disconnected(reason)


def _bytes(part: Any) -> Any:
    return part.encode() if isinstance(part, str) else part


def _command(name: str, args: Iterable[Any], options: Mapping[str, Any]) -> list[Any]:
    """A method's call as the command that goes over the wire."""
    if name == "xrange":
        [key] = args
        return [b"XRANGE", _bytes(key), _bytes(options.get("min", "-")), b"+", b"COUNT", options["count"]]
    if name == "xtrim":
        [key] = args
        return [b"XTRIM", _bytes(key), _bytes(options["minid"])]
    if name == "hset" and "mapping" in options:
        [key] = args
        return [b"HSET", _bytes(key), *(_bytes(part) for pair in options["mapping"].items() for part in pair)]
    return [_TWO_WORDS.get(name) or name.upper().encode(), *map(_bytes, args)]


class SimPipeline:
    """Commands sent together; its methods are redis-py's."""

    def __init__(self, client: SimClient, *, atomic: bool) -> None:
        self._client, self._atomic = client, atomic
        self._commands: list[list[Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        return None

    def execute_command(self, *command: Any) -> None:
        """Queue any command."""
        self._commands.append([_bytes(part) for part in command])

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self._commands.append(_command(name, args, options))

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send them; the replies in order."""
        replies = await self._client.ask(self._commands, atomic=self._atomic)
        for reply in replies if raise_on_error else ():
            if isinstance(reply, Exception):
                raise reply
        return replies


class SimClient:
    """A client of one server with a pool of connections, as one process holds it."""

    def __init__(self, cluster: Cluster, process: str, address: str) -> None:
        self._cluster, self._server = cluster, cluster.servers[address]
        self._link = cluster.network.link(process, address)
        self._free: list[Session] = []
        self.connection_pool = self
        self.likes_without_touch = cluster.likes_without_touch

    def make_connection(self) -> SimConnection:
        """A connection of its own, as the like link has one."""
        return SimConnection(self)

    async def disconnect(self, *, inuse_connections: bool) -> None:
        """Close the idle connections, as a pool does."""
        assert not inuse_connections
        self._free.clear()

    def pipeline(self, *, transaction: bool) -> SimPipeline:
        """Queue commands."""
        return SimPipeline(self, atomic=transaction)

    async def ask(self, commands: Sequence[Sequence[Any]], *, atomic: bool = False) -> list[Any]:
        """Send a pipeline over a free connection; one that has failed is not used again."""
        session = self._free.pop() if self._free else Session()
        replies: list[Any] = await self.send(session, commands, atomic=atomic)
        self._free.append(session)
        return replies

    def send(
        self,
        session: Session,
        commands: Sequence[Sequence[Any]],
        *,
        atomic: bool = False,
        timeout_s: float = STORE_TIMEOUT_S,
    ) -> asyncio.Future[list[Any]]:
        """Send a pipeline over a connection."""
        server = self._server
        return self._cluster.network.ask(
            self._link,
            lambda answer: server.receive(session, commands, atomic, answer),
            timeout_s=timeout_s,
            lost=_lost,
        )

    async def execute_command(self, *command: Any) -> Any:
        """Send one command; its reply."""
        [reply] = await self.ask([[_bytes(part) for part in command]])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def scan_iter(self, *, match: str, **_options: Any) -> AsyncIterator[bytes]:
        """The keys that begin like `match`, a glob pattern with its star at the end."""
        prefix = match.rstrip("*").replace("\\", "").encode()
        for key in await self.execute_command("SCAN", prefix):
            yield key

    def __getattr__(self, name: str) -> Any:
        if name not in _NAMED and name not in _TWO_WORDS and name not in ("fcall", "hset"):
            raise AttributeError(name)
        return lambda *args, **options: self.execute_command(*_command(name, args, options))


LATE_S = 4.0  # a raw connection waits as long as its user does: replies may come after they were given up


class SimConnection:
    """The raw connection under the like link. Replies are read in order, those to earlier pipelines first."""

    def __init__(self, client: SimClient) -> None:
        self._client = client
        self._session = Session(deaf_to_touch=client.likes_without_touch)
        self._pending: deque[asyncio.Future[list[Any]]] = deque()
        self._replies: list[Any] = []
        self._broken = False

    async def connect(self) -> None:
        """Open it."""
        await self._client.send(self._session, [[b"TIME"]])

    async def send_packed_command(self, packed: Sequence[bytes]) -> None:
        """Send a pipeline as bytes, which the server reads."""
        if self._broken:
            raise Disconnected("the connection is broken")
        reader = Reader()
        reader.feed(b"".join(packed))
        commands = []
        while (command := reader.gets()) is not False:
            commands.append(command)
        self._pending.append(self._client.send(self._session, commands, timeout_s=LATE_S))

    async def read_response(self, **_options: Any) -> Any:
        """The next reply; a refusal is raised."""
        if not self._replies:
            try:
                self._replies = list(await asyncio.shield(self._pending[0]))[::-1]
            except (Disconnected, TimedOut):
                self._broken = True
                raise
            self._pending.popleft()
        reply = self._replies.pop()
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def disconnect(self, *, nowait: bool) -> None:
        """Drop it; what is in flight may still be run."""


class SimNodes:
    """Which server holds what, as one process believes: the interface of StoreNodes."""

    def __init__(self, cluster: Cluster, process: str, *, replicated: bool) -> None:
        self._cluster, self._process = cluster, process
        self.replicated = replicated
        self.generation = 0
        self._serving = [] if cluster.replicated else [place.server.name for place in cluster.places]
        self._clients: dict[str, SimClient] = {}

    def sharing(self, **_options: Any) -> SimNodes:
        """Connections are not bounded here: itself."""
        return self

    def all(self) -> list[Node]:
        """Every server that takes writes, as far as is known."""
        return [self._node(address) for address in sorted(set(self._serving))]

    def of(self, key: str) -> Node:
        """The server that holds a key."""
        if not self._serving:
            raise StoreAway("No server of the cluster is known to hold this key.")
        return self._node(self._serving[self._cluster.place_of(key)])

    def holds(self, node: Node, key: str) -> bool:
        """Whether a key lies on this server."""
        return self._serving[self._cluster.place_of(key)] == node.address

    def groups(self, names: Sequence[str]) -> list[list[int]]:
        """The places of keys in `names`, grouped by the server that holds them."""
        by_address: dict[str, list[int]] = {}
        for at, name in enumerate(names):
            by_address.setdefault(self.of(name).address, []).append(at)
        return list(by_address.values())

    async def known(self) -> None:
        """Ask where that has not succeeded before."""
        if not self._serving:
            await self.refresh()

    async def refresh(self) -> None:
        """Ask the servers in a drawn order who takes the writes; the first that answers is believed.

        Raises StoreAway where none answers.
        """
        if not self._cluster.replicated:
            return
        for address in self._cluster.asked_in_order():
            try:
                believed = await self._client(address).execute_command("PRIMARY")
            except (Disconnected, TimedOut):
                continue
            serving = self._cluster.serving_as_seen_by(address, believed)
            if serving != self._serving:
                self._serving = serving
                self.generation += 1
            return
        raise StoreAway("No node of the cluster can tell who holds which slot.")

    async def aclose(self) -> None:
        """Close every connection."""

    def _node(self, address: str) -> Node:
        return Node(address, cast("Redis", self._client(address)))

    def _client(self, address: str) -> SimClient:
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = SimClient(self._cluster, self._process, address)
        return client
