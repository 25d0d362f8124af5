"""The servers that take the store's writes, and which of them holds a key: one server, or a cluster's primaries."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from dianzan.domain.errors import StoreAway, StoreError
from dianzan.domain.limits import STORE_TIMEOUT_S

_CONNECT_TIMEOUT_S: Final = 2.0
# A firewall that forgets quiet connections is kept awake, and one that drops them unsaid is found out within a minute.
_KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 30, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 3}


def open_client(url: str, *, connections_max: int = 32) -> Redis:
    """A client of one server that never retries by itself: a retry after a lost reply would run a command twice.

    A command that finds all connections busy waits for one, at most as long as for an answer.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=STORE_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        max_connections=connections_max,
        timeout=STORE_TIMEOUT_S,
        socket_keepalive=True,
        socket_keepalive_options=_KEEPALIVE,
    )
    pool.connection_class = type("Connection", (_PacksFast, _SaysWhenReset, pool.connection_class), {})
    return Redis.from_pool(pool)


class _SaysWhenReset:
    """uvloop answers a write to a connection that was reset with RuntimeError, which redis-py lets through."""

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        try:
            await super().send_packed_command(*args, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise exceptions.ConnectionError(f"The connection was reset ({error}).") from error


class _PacksFast:
    """redis-py's own packing in asyncio takes four times as long an argument; a flush has two for every like."""

    def pack_command(self, *args: Any) -> list[bytes]:
        words = args[0].encode().split()  # "CLUSTER INFO"
        return [pack_command((*words, *args[1:]))]


def connect(urls: str, *, replicated: bool = False, connections_max: int = 32) -> StoreNodes:
    """The servers behind one address, or behind those of a cluster's nodes, separated by commas.

    Nothing is sent yet. Raises ValueError for what is no address.
    """
    seeds = [url.strip() for url in urls.split(",") if url.strip()]
    if not seeds:
        raise ValueError("an address is empty")
    for seed in seeds:
        if urlsplit(seed).scheme not in ("redis", "rediss"):
            raise ValueError("an address begins with redis:// or rediss://, and a comma in a password is written %2C")
    for seed in seeds:
        _refuse_parameters(seed)
    topology = _Topology(seeds, clustered=True if len(seeds) > 1 else None)
    return StoreNodes(topology, replicated=replicated, connections_max=connections_max)


def _refuse_parameters(url: str) -> None:
    """Raise ValueError for a parameter that redis-py's connection does not take, or a file it could not read."""
    pool = open_client(url).connection_pool
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        raise ValueError(f"a parameter after ? is not known: {str(error).rpartition(' ')[2]}") from error
    for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        file = pool.connection_kwargs.get(name)
        if file and not os.access(file, os.R_OK):
            raise ValueError(f"{name} names {file}, which cannot be read")


def refuse_no_address(urls: str) -> None:
    """Raise StoreError, which names the setting, for what is no address; nothing is connected to."""
    try:
        connect(urls)
    except ValueError as error:
        raise StoreError(f"That is no store's address ({error}): is DIANZAN_REDIS_URL right?") from error


@dataclass(frozen=True, slots=True)
class Node:
    """A server that takes writes, and the client for it."""

    address: str  # host:port
    client: Redis

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses: they may be dead, or lead to the server that was there before."""
        await self.client.connection_pool.disconnect(inuse_connections=False)


@dataclass(slots=True)
class _Topology:
    """Which address serves which slot; `slots` stays empty for one server, and until a cluster was first asked."""

    seeds: list[str]
    slots: list[str | None] = field(default_factory=list)
    generation: int = 0
    clustered: bool | None = None  # by one address alone not known before its server has said so


class StoreNodes:
    """One plain client a server, used side by side by any number of tasks.

    redis-py's own cluster client is not used: it sends commands again by itself after errors and redirections, which
    the like protocol decides for itself. A redirection here is an error like any other; `refresh` learns of the change.
    """

    def __init__(self, topology: _Topology, *, replicated: bool, connections_max: int) -> None:
        self._topology = topology
        self._connections_max = connections_max
        self._clients: dict[str, Redis] = {}
        self.replicated = replicated
        if not topology.clustered:
            self._client(_address(topology.seeds[0]))

    def sharing(self, *, connections_max: int) -> StoreNodes:
        """The same servers over connections of their own; what either learns of the cluster both know."""
        return StoreNodes(self._topology, replicated=self.replicated, connections_max=connections_max)

    @property
    def generation(self) -> int:
        """Grows when a slot has moved."""
        return self._topology.generation

    def all(self) -> list[Node]:
        """Every server that takes writes, as far as is known."""
        if not self._topology.clustered:
            addresses = [_address(self._topology.seeds[0])]
        else:
            addresses = sorted({address for address in self._topology.slots if address})
        return [Node(address, self._client(address)) for address in addresses]

    def of(self, key: str) -> Node:
        """The server that holds a key. Raises StoreAway if none is known."""
        address = self._serving(key)
        if address is None:
            raise StoreAway("No server of the cluster is known to hold this key.")
        return Node(address, self._client(address))

    def holds(self, node: Node, key: str) -> bool:
        """Whether a key lies on this server."""
        return self._serving(key) == node.address

    def groups(self, names: Sequence[str]) -> list[list[int]]:
        """The places of keys in `names`, grouped by the server that holds them; those of no known server together."""
        by_address: dict[str | None, list[int]] = {}
        for place, name in enumerate(names):
            by_address.setdefault(self._serving(name), []).append(place)
        return list(by_address.values())

    async def known(self) -> None:
        """Ask for the slots where that has not succeeded before. Raises StoreAway."""
        if self._topology.clustered is None or (self._topology.clustered and not self._topology.slots):
            await self.refresh()

    async def refresh(self) -> None:
        """Learn which server holds which slot now. Raises StoreAway if no node can tell.

        A node in a minority knows that it is (`cluster_state:fail`) and is not believed; nodes are asked in random
        order, so that one with an old map is not asked for ever.
        """
        if self._topology.clustered is None:
            await self._learn()
        if not self._topology.clustered:
            return
        known = {address for address in self._topology.slots if address} | set(map(_address, self._topology.seeds))
        reasons = []
        for address in random.sample(sorted(known), len(known)):
            try:
                found = await self._ask(address)
            except (RedisError, OSError, TimeoutError) as error:
                reasons.append(f"{address}: {type(error).__name__}")
                continue
            if found is None:
                reasons.append(f"{address}: cluster_state is not ok")
                continue
            if found != self._topology.slots:
                self._topology.slots = found
                self._topology.generation += 1
            return
        raise StoreAway(f"No node of the cluster can tell who holds which slot ({'; '.join(sorted(reasons))}).")

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    async def _learn(self) -> None:
        """Whether the one address leads to a cluster, as a managed one has a single name; asked until it answers."""
        try:
            told: Mapping[str, Any] = await self._client(_address(self._topology.seeds[0])).info("cluster")
        except exceptions.ResponseError:
            told = {}  # it may not tell; a cluster's answers to what follows name the setting
        except (RedisError, OSError, TimeoutError):
            return
        self._topology.clustered = bool(int(told.get("cluster_enabled", 0)))

    async def _ask(self, address: str) -> list[str | None] | None:
        client = self._client(address)
        info: Mapping[str, str] = await _execute(client, "CLUSTER INFO")
        if info["cluster_state"] != "ok":
            return None
        slots: list[str | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_replicas in await _execute(client, "CLUSTER SLOTS"):
            serving = f"{host.decode() if host else address.rpartition(':')[0]}:{port}"
            slots[first : last + 1] = [serving] * (last - first + 1)
        return slots

    def _serving(self, key: str) -> str | None:
        if not self._topology.clustered:
            return _address(self._topology.seeds[0])
        slots = self._topology.slots
        return slots[key_slot(key.encode())] if slots else None

    def _client(self, address: str) -> Redis:
        client = self._clients.get(address)
        if client is None:
            url = urlsplit(self._topology.seeds[0])
            login = url.netloc.rpartition("@")[0]
            netloc = f"{login}@{address}" if login else address
            opened = open_client(urlunsplit(url._replace(netloc=netloc)), connections_max=self._connections_max)
            client = self._clients[address] = opened
        return client


async def _execute(client: Redis, command: str) -> Any:
    return await client.execute_command(command)  # type: ignore[no-untyped-call]


def _address(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
