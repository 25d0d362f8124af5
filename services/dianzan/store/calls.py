"""How a command reaches the server that holds its key: one, many in one pipeline a server, confirmed by a replica."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError, ResponseError

from dianzan.domain.errors import StoreError
from dianzan.store import durability, keys
from dianzan.store.nodes import Node, StoreNodes


class StoreCalls:
    """Every method raises redis.RedisError where the store is down, if not said otherwise."""

    def __init__(self, nodes: StoreNodes) -> None:
        self._nodes = nodes

    async def at(self, key: str) -> Node:
        """The server that holds a key."""
        await self._nodes.known()
        return self._nodes.of(key)

    async def each(
        self, names: Sequence[str], command: Callable[[Pipeline, str], Any], *, partly: bool = False
    ) -> list[Any]:
        """One command a key, in one pipeline a server; replies in the order of the names.

        `partly`: None for the keys of servers that do not answer, and an error only where none does.
        """
        await self._nodes.known()
        replies: list[Any] = [None] * len(names)
        failed: list[Exception] = []
        groups = self._nodes.groups(names)
        for places in groups:
            try:
                node = self._nodes.of(names[places[0]])
                async with node.client.pipeline(transaction=False) as pipeline:
                    for place in places:
                        command(pipeline, names[place])
                    for place, reply in zip(places, await pipeline.execute(), strict=True):
                        replies[place] = reply
            except (RedisError, OSError, TimeoutError) as error:
                failed.append(error)
                if not partly or len(failed) == len(groups):
                    raise
        return replies

    async def call(self, function: str, names: Sequence[str], *args: bytes | str) -> Any:
        """Call a function of keys in one slot; StoreError, with the reason, where the store refuses."""
        node = await self.at(names[0])
        try:
            return await node.client.fcall(function, len(names), *names, *args)
        except ResponseError as error:
            raise StoreError(f"{function} was refused by the store: {error}") from error

    async def confirmed(self, function: str, key: str, *args: bytes | str) -> Any:
        """As `call`, of one key; with a replica, return once it holds the change too."""
        try:
            return await self.held(key, lambda asked: asked.fcall(function, 1, key, *args))
        except ResponseError as error:
            raise StoreError(f"{function} was refused by the store: {error}") from error

    async def held(self, key: str, queue: Callable[[Pipeline], Any]) -> Any:
        """The reply to one command; with a replica, once it holds all that the server had written by then.

        Raises StoreError short of that. One connection from beginning to end, so that what is confirmed is this
        server's history and not that of one promoted meanwhile.
        """
        client = (await self.at(key)).client
        async with client.pipeline(transaction=False) as pipeline:
            queue(pipeline)
            if self._nodes.replicated:
                waitaof = await durability.has_waitaof(client)
                for command in durability.confirmation(keys.touch(key), waitaof=waitaof):
                    pipeline.execute_command(*command)
            reply, *confirmation = await pipeline.execute(raise_on_error=False)
        if isinstance(reply, Exception):
            raise reply
        if self._nodes.replicated and not durability.confirmed(confirmation):
            raise StoreError("No replica has confirmed in time: is it there and in step? Run this again when it is.")
        return reply
