"""What production code holds of redis-py, over simulated servers: clients, pipelines, the raw connection, the nodes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from hiredis import Reader
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as TimedOut
from typing_extensions import override

from dianzan.store.nodes import StoreNodes, _Topology
from tests.simulation.patches import STORE_TIMEOUT_S
from tests.simulation.store_server import Session

if TYPE_CHECKING:
    from tests.simulation.store_cluster import Cluster


def _lost(reason: str) -> Exception:
    return TimedOut(reason) if "in time" in reason else Disconnected(reason)


@cache
def _redis_py() -> tuple[Any, Any]:
    """What redis-py makes of an argument, and of the reply to each command; its client here connects to nothing."""
    client = Redis(protocol=2)
    return client.get_encoder().encode, dict(client.response_callbacks)  # type: ignore[no-untyped-call]


class SimPipeline(Pipeline):
    """redis-py's pipeline, sent to a simulated server."""

    def __init__(self, client: SimClient, *, transaction: bool) -> None:
        assert not transaction
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what is queued; the replies in order."""
        commands, self.command_stack = self.command_stack, []
        replies = await self._client.ask([self._client.packed(command) for command, _options in commands])
        if raise_on_error:
            self.raise_first_error(commands, replies)
        return [self._client.read(reply, *queued) for reply, queued in zip(replies, commands, strict=True)]


class SimClient(Redis):
    """redis-py's client of one simulated server, with a pool of connections, as one process holds it."""

    connection_pool: Any  # the client itself

    def __init__(self, cluster: Cluster, process: str, address: str) -> None:
        self._cluster, self._server = cluster, cluster.servers[address]
        self._link = cluster.network.link(process, address)
        self._free: list[Session] = []
        self.connection_pool = self
        self._encode, self.response_callbacks = _redis_py()
        self.likes_without_touch = cluster.likes_without_touch

    def __repr__(self) -> str:
        return f"SimClient({self._link.name})"

    def make_connection(self) -> SimConnection:
        """A connection of its own, as the like link has one."""
        return SimConnection(self)

    async def disconnect(self, *, inuse_connections: bool) -> None:
        """Close the idle connections, as a pool does."""
        assert not inuse_connections
        self._free.clear()

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> SimPipeline:  # noqa: ARG002
        """Queue commands."""
        return SimPipeline(self, transaction=transaction)

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        """Send one command; its reply."""
        [reply] = await self.ask([self.packed(command)])
        if isinstance(reply, Exception):
            raise reply
        return self.read(reply, command, options)

    def packed(self, command: Sequence[Any]) -> list[bytes]:
        """A command as it goes over the wire: 'CONFIG GET' is two words there."""
        return [*command[0].encode().split(), *map(self._encode, command[1:])]

    def read(self, reply: Any, command: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """A reply as redis-py gives it."""
        read = self.response_callbacks.get(command[0])
        if read is None or isinstance(reply, Exception):
            return reply
        return read(reply, **{name: value for name, value in options.items() if name != "keys"} if options else {})

    async def ask(self, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Send a pipeline over a free connection; one that has failed is not used again."""
        session = self._free.pop() if self._free else Session()
        replies: list[Any] = await self.send(session, commands)
        self._free.append(session)
        return replies

    def send(
        self, session: Session, commands: Sequence[Sequence[bytes]], *, timeout_s: float = STORE_TIMEOUT_S
    ) -> asyncio.Future[list[Any]]:
        """Send a pipeline over a connection."""
        return self._cluster.network.ask(
            self._link,
            lambda answer: self._server.receive(session, commands, answer),
            timeout_s=timeout_s,
            lost=_lost,
        )


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


class SimNodes(StoreNodes):
    """Which server holds what, as one process believes. Of the slots there are as many as places."""

    def __init__(self, cluster: Cluster, process: str, *, replicated: bool) -> None:
        self._cluster, self._process = cluster, process
        super().__init__(
            _Topology([f"redis://{name}" for name in cluster.servers], clustered=len(cluster.servers) > 1),
            replicated=replicated,
            connections_max=1,
        )

    @override
    async def _ask(self, address: str) -> list[str | None] | None:
        believed = await self._client(address).execute_command("PRIMARY")  # type: ignore[no-untyped-call]
        return [*self._cluster.serving_as_seen_by(address, believed)]

    @override
    def _serving(self, key: str) -> str | None:
        slots = self._topology.slots
        return slots[self._cluster.place_of(key)] if slots else super()._serving(key)

    @override
    def _client(self, address: str) -> Redis:
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = SimClient(self._cluster, self._process, address)
        return client
