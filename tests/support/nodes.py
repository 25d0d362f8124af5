"""The store edge over a client that a test already has."""

from __future__ import annotations

from redis.asyncio import Redis

from dianzan.store.nodes import StoreNodes, connect
from dianzan.store.store import Store
from dianzan.store.streams import Streams


def one_server(client: Redis, *, replicated: bool = False) -> StoreNodes:
    """One store server, reached by this very client; whoever opened the client closes it."""
    nodes = connect("redis://one.server:1", replicated=replicated)
    nodes._clients = {"one.server:1": client}
    return nodes


def store_with(client: Redis, streams: type[Streams]) -> Store:
    """The store edge with streams of a test's own kind."""
    store = Store(one_server(client))
    store.streams = streams(store._calls)
    return store
