"""The connection that carries batches of likes to one store node, and what the store's refusals mean to a voter."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from hiredis import pack_command
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from dianzan.domain import wire
from dianzan.domain.errors import (
    ApiError,
    ClockSkewed,
    Closed,
    NoRoom,
    NotOpen,
    RulesMoved,
    StoreError,
    StoreUnavailable,
    StoreUnsafe,
)
from dianzan.domain.limits import STORE_TIMEOUT_S
from dianzan.domain.shard import Shard
from dianzan.domain.windows import Window, now_ms
from dianzan.domain.wire import Outcome
from dianzan.process import faults
from dianzan.store import durability, keys

# The first word of a function's error reply, and what it means to a client. In every one nothing was written.
_REFUSALS: Final[Mapping[str, tuple[type[ApiError], str]]] = {
    "UNGATED": (StoreUnsafe, "The store does not hold this campaign; nothing was counted."),
    "SHUT": (Closed, "Voting has ended; the tally is being sealed or is sealed."),
    "STALE": (RulesMoved, "The campaign's rules changed at this moment; nothing was counted."),
    "SKEWED": (ClockSkewed, "This server's clock and the store's differ; nothing was counted."),
    "EARLY": (NotOpen, "The campaign is not open yet."),
    "LATE": (Closed, "Voting has ended."),
    "WINDOW": (RulesMoved, "A new voting window began at this moment; nothing was counted."),
    "OOM": (NoRoom, "The store is full; nothing was counted."),
}


@dataclass(frozen=True, slots=True)
class LikeCall:
    """One call of `like_v1`: the packed ballots of one shard and window, `sizes` likes each."""

    shard: Shard
    rules_version: int
    window: Window
    batch: bytes
    ballots: bytes
    sizes: Sequence[int]

    def packed(self, sent_ms: int) -> bytes:
        """The call as it goes over the wire."""
        return _packed(
            (
                b"FCALL",
                b"like_v1",
                4,
                keys.gate(self.shard),
                keys.counts(self.shard),
                keys.stream(self.shard),
                keys.marks_prefix(self.shard, self.window.day),
                self.rules_version,
                self.window.day,
                self.window.start_ms,
                self.window.end_ms,
                sent_ms,
                self.batch,
                self.ballots,
            )
        )


class LikeLink:
    """The one connection a vote API process has to a store server for likes; one pipeline in flight.

    A reply belongs to a request by its place alone, so after any error the connection is dropped: what was in flight
    is unknown, and the same request asked again settles it.
    """

    def __init__(
        self, client: Redis, *, replicated: bool = False, on_open: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """`replicated`: a like is counted once a replica holds it too. `on_open` runs before the first likes of a new
        connection; what it raises refuses them.
        """
        self._client = client
        self._replicated = replicated
        self._on_open = on_open
        self._connection: AbstractConnection | None = None
        self._waitaof = False

    async def send(self, calls: Sequence[LikeCall]) -> list[list[Outcome] | ApiError]:
        """Send all calls as one pipeline; per call its outcomes or its refusal. Raises StoreUnavailable: unknown."""
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S):
                connection = await self._connected()
                sent_ms = now_ms()
                end = self._end(calls[0])
                faults.hit("batch.before_send")
                await connection.send_packed_command([*(call.packed(sent_ms) for call in calls), *end])
                faults.hit("batch.after_send")
                replies = [await self._reply(connection, call) for call in calls]
                confirmed = not end or durability.confirmed([await _any_reply(connection) for _ in end])
        except (RedisError, OSError, TimeoutError, StoreError) as error:
            await self.close()
            reason = error.reason if isinstance(error, StoreError) else type(error).__name__
            raise StoreUnavailable(f"The store did not answer ({reason}); ask again.") from error
        except BaseException:
            await self.close()
            raise
        if not confirmed:
            replies = [reply if isinstance(reply, ApiError) else _unconfirmed() for reply in replies]
        if any(isinstance(reply, StoreUnavailable) for reply in replies):
            # No refusal of the function's: this server may have become a replica, lost its own, or be another one.
            await self.close()
        return replies

    async def close(self) -> None:
        """Drop the connection; the next `send` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _connected(self) -> AbstractConnection:
        # Nothing is in flight: a connection that the server or a firewall has closed is opened again without a doubt.
        if self._connection is not None and _ended(self._connection):
            await self.close()
        if self._connection is None:
            pool = self._client.connection_pool
            connection = cast("AbstractConnection", pool.make_connection())  # type: ignore[no-untyped-call]
            await connection.connect()  # type: ignore[no-untyped-call]
            connection.socket_timeout = None  # `send` bounds the pipeline as a whole; a timer a reply costs 5 µs
            self._connection = connection
            if self._on_open is not None:
                await self._on_open()
            self._waitaof = self._replicated and await durability.has_waitaof(self._client)
        return self._connection

    def _end(self, call: LikeCall) -> list[bytes]:
        """What follows the calls in a pipeline: nothing, or what makes a replica confirm them."""
        if not self._replicated:
            return []
        touch = keys.touch(keys.gate(call.shard))
        return [_packed(command) for command in durability.confirmation(touch, waitaof=self._waitaof)]

    async def _reply(self, connection: AbstractConnection, call: LikeCall) -> list[Outcome] | ApiError:
        reply = await _any_reply(connection)
        return _refusal(str(reply)) if isinstance(reply, ResponseError) else wire.unpack_outcomes(reply, call.sizes)


def _packed(command: Sequence[Any]) -> bytes:
    packed: bytes = pack_command(command)  # type: ignore[arg-type]  # hiredis types it as a tuple of one
    return packed


def _ended(connection: Any) -> bool:
    reader = getattr(connection, "_reader", None)
    return reader is not None and (reader.at_eof() or reader.exception() is not None)


async def _any_reply(connection: AbstractConnection) -> Any:
    """The next reply, a refusal as its error."""
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def _unconfirmed() -> StoreUnavailable:
    return StoreUnavailable("No replica has confirmed in time; ask again.")


def _refusal(message: str) -> ApiError:
    word = message.partition(" ")[0]
    if word in _REFUSALS:
        refused, detail = _REFUSALS[word]
        return refused(detail)
    if "command not allowed when used memory" in message:  # redis-py strips the word OOM
        return NoRoom(_REFUSALS["OOM"][1])
    return StoreUnavailable(f"The store refused: {message}")
