"""How a command reaches the server that holds its key: one, many in one pipeline a server, confirmed by a replica."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from dianzan.domain.errors import StoreError
from dianzan.store import durability, keys
from dianzan.store.errors import mapped
from dianzan.store.nodes import StoreNodes


class StoreCalls:
    """Every method raises StoreAway if the server does not answer, StoreError if it refuses."""

    def __init__(self, nodes: StoreNodes) -> None:
        self._nodes = nodes

    async def one(self, key: str, command: Callable[[Redis], Awaitable[Any] | Any]) -> Any:
        """The reply to one command, of the server that holds the key."""
        client = await self._client(key)
        with mapped():
            return await command(client)

    async def pipeline(
        self, key: str, queue: Callable[[Pipeline], object], *, transaction: bool = False, quiet: bool = False
    ) -> list[Any]:
        """The replies to what `queue` puts into one pipeline, of the server that holds the key.

        `quiet`: an error does not quote the command that was refused, which may hold voters' hashes.
        """
        client = await self._client(key)
        with mapped():
            async with client.pipeline(transaction=transaction) as pipeline:
                queue(pipeline)
                replies: list[Any] = await pipeline.execute(raise_on_error=not quiet)
            for reply in replies if quiet else ():
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def each(
        self, names: Sequence[str], command: Callable[[Pipeline, str], Any], *, partly: bool = False
    ) -> list[Any]:
        """One command a key, in one pipeline a server; replies in the order of the names.

        `partly`: None for the keys of servers that do not answer, and an error only if none does.
        """
        await self._nodes.known()
        replies: list[Any] = [None] * len(names)
        failed = 0
        groups = self._nodes.groups(names)
        for places in groups:

            def queue(pipeline: Pipeline, places: Sequence[int] = places) -> None:
                for place in places:
                    command(pipeline, names[place])

            try:
                of_server = await self.pipeline(names[places[0]], queue)
            except StoreError:
                failed += 1
                if not partly or failed == len(groups):
                    raise
            else:
                for place, reply in zip(places, of_server, strict=True):
                    replies[place] = reply
        return replies

    async def call(self, function: str, names: Sequence[str], *args: bytes | str) -> Any:
        """Call a function of keys in one slot; StoreError, with the reason, where the store refuses."""
        client = await self._client(names[0])
        with mapped(function):
            return await client.fcall(function, len(names), *names, *args)

    async def confirmed(self, function: str, key: str, *args: bytes | str) -> Any:
        """As `call`, of one key; with a replica, return once it holds the change too."""
        with mapped(function):
            return await self._held(key, lambda asked: asked.fcall(function, 1, key, *args))

    async def held(self, key: str, queue: Callable[[Pipeline], Any]) -> Any:
        """The reply to one command; with a replica, once it holds all that the server had written by then.

        Raises StoreError short of that. One connection from beginning to end, so that what is confirmed is this
        server's history and not that of one promoted meanwhile.
        """
        with mapped():
            return await self._held(key, queue)

    async def _held(self, key: str, queue: Callable[[Pipeline], Any]) -> Any:
        client = await self._client(key)
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
            server = self._nodes.of(key).address
            raise StoreError(
                f"No replica of {server} has confirmed in time: is it there and in step? It is safe to run this again."
            )
        return reply

    async def _client(self, key: str) -> Redis:
        await self._nodes.known()
        return self._nodes.of(key).client
