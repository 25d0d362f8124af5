"""The store edge over a client that a test already has."""

from __future__ import annotations

from redis.asyncio import Redis

from dianzan.store.nodes import StoreNodes, connect


def one_server(client: Redis, *, replicated: bool = False) -> StoreNodes:
    """One store server, reached by this very client; whoever opened the client closes it."""
    nodes = connect("redis://one.server:1", replicated=replicated)
    nodes._clients = {"one.server:1": client}
    return nodes
