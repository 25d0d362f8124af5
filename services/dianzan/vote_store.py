"""The Redis/Valkey edge but for the like pipeline (like_link.py): one typed method per server function or key."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

from pydantic import ValidationError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from dianzan import keys, wire
from dianzan.campaign import Document, Rules
from dianzan.errors import StoreError, StoreUnavailable
from dianzan.limits import STORE_TIMEOUT_S

LIBRARY: Final = "dianzan"
LIBRARY_VERSION: Final = 1
_GATE: Final = struct.Struct(">IHBIQQ")
_CONNECT_TIMEOUT_S: Final = 2.0
_CLOSED: Final = b"closed"  # a gate that takes no likes for good

# What a server must be set to so that an answered like survives a crash of the store's process or its power.
DURABLE_SETTINGS: Final = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}


def connect(url: str, *, connections_max: int = 32) -> Redis:
    """A client that never retries by itself: a retry after a lost reply would run a command twice.

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
    )
    return Redis.from_pool(pool)


def pack_gate(document: Document) -> bytes:
    """The rules a shard counts by, as `like_v1` reads them."""
    rules = document.rules
    return _GATE.pack(
        document.version,
        rules.likes_per_window,
        document.width,
        rules.buckets,
        rules.opens_ms,
        rules.closes_ms,
    )


@cache
def _library_source() -> str:
    return (files("dianzan") / "vote_store.lua").read_text(encoding="utf-8")


@contextmanager
def _answering() -> Iterator[None]:
    """Turn a store that is down into the 503 a voter sees."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"The store did not answer ({type(error).__name__}); ask again.") from error


class Soundness(StrEnum):
    """What `check_shard` has found, and made safe."""

    sound = "sound"
    behind = "behind"  # the gate is gone
    reopened = "reopened"  # it is closed again


class VoteStore:
    """Typed access to everything in the store but the like pipeline.

    What voters wait for raises StoreUnavailable where the store is down; the rest raises redis.RedisError.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    # ---- the function library and the promise -------------------------------------------------------------------

    async def load_library(self) -> None:
        """Load the function library unless the server has this version or a newer one."""
        if (await self.library_version() or 0) < LIBRARY_VERSION:
            await self._client.function_load(_library_source(), replace=True)

    async def library_version(self) -> int | None:
        """The version of the loaded library, None where there is none."""
        try:
            return int(await self._client.fcall_ro("version_v1", 0))
        except ResponseError as error:
            if "not found" in str(error).lower():
                return None
            raise

    async def broken_promises(self) -> list[str]:
        """Why this server does not keep the one-node promise, one sentence a setting; empty where it does."""
        found = await self._client.config_get(*DURABLE_SETTINGS)
        broken = [
            f"{name} is {found.get(name, b'?')!r}: set it to {wanted}"
            for name, wanted in DURABLE_SETTINGS.items()
            if _text(found.get(name)) != wanted
        ]
        version = await self.library_version()
        # A newer one serves too: its functions keep their names as long as their arguments.
        if version is None or version < LIBRARY_VERSION:
            broken.append(f"function library version is {version}, not {LIBRARY_VERSION}: run dianzan migrate")
        return broken

    # ---- campaigns ------------------------------------------------------------------------------------------------

    async def publish_document(self, document: Document) -> None:
        """Store a campaign's document, then name its version in the list the vote API watches.

        Raises StoreError where the store has a later one.
        """
        campaign, version = document.rules.id, str(document.version)
        await self._call("document_v1", [keys.document(campaign)], version, document.model_dump_json())
        await self._call("announce_v1", [keys.CAMPAIGNS], campaign, version)

    async def versions(self) -> dict[str, int]:
        """Campaign id -> version of its published document."""
        found = await cast("Awaitable[dict[bytes, bytes]]", self._client.hgetall(keys.CAMPAIGNS))
        return {campaign.decode(): int(version) for campaign, version in found.items()}

    async def document(self, campaign: str) -> Document | None:
        """The published document, None where there is none."""
        body = await self._client.get(keys.document(campaign))
        try:
            return Document.model_validate_json(body) if body else None
        except ValidationError as error:
            raise StoreError(f"The document of campaign {campaign} cannot be read: {error}") from error

    async def open_gates(self, document: Document, *, first: bool, but: Collection[int] = ()) -> None:
        """Open every shard but those of `but` by the document's rules.

        Raises StoreError where a shard is closed for good, has rules of a later version, or lacks its gate and this is
        not the `first` time; shards already reached stay as they are.
        """
        gate, mode = pack_gate(document), "first" if first else "again"
        for shard in [shard for shard in range(document.rules.shards) if shard not in but]:
            await self._call("open_v1", [keys.gate(document.rules.id, shard)], gate, mode)

    async def close_gates(self, campaign: str, shards: int) -> None:
        """Close every shard for good: after this returns no like is accepted anywhere."""
        for shard in range(shards):
            await self._call("close_v1", [keys.gate(campaign, shard)])

    async def gates_missing(self, campaign: str, shards: int) -> list[int]:
        """Shards that have no gate at all."""
        return [shard for shard, gate in enumerate(await self._gates(campaign, shards)) if gate is None]

    async def gates_closed(self, campaign: str, shards: int) -> list[int]:
        """Shards closed for good."""
        return [shard for shard, gate in enumerate(await self._gates(campaign, shards)) if gate == _CLOSED]

    async def _gates(self, campaign: str, shards: int) -> list[bytes | None]:
        found = await self._client.mget([keys.gate(campaign, shard) for shard in range(shards)])
        return cast("list[bytes | None]", found)

    # ---- voters -----------------------------------------------------------------------------------------------------

    async def liked(self, document: Document, window_day: int, voter: bytes) -> tuple[int, ...]:
        """Candidate indexes the voter liked in the window, in order."""
        shard = wire.shard_of(voter, document.rules.shards)
        bucket = wire.bucket_of(voter, document.rules.buckets)
        key = keys.marks(document.rules.id, shard, window_day, bucket)
        with _answering():
            mark = await cast("Awaitable[bytes | None]", self._client.hget(key, cast("str", wire.mark_field(voter))))
        return wire.unpack_indexes(mark or b"", document.width)

    async def count_minted(self, campaign: str, network: int, minute: int) -> int:
        """Count one more token for a network in a minute and return how many that makes."""
        key = keys.tokens_minted(campaign, network, minute)
        with _answering():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.incr(key)
            pipeline.expire(key, 120)
            return int((await pipeline.execute())[0])

    # ---- the worker -------------------------------------------------------------------------------------------------

    async def read_entries(
        self, campaign: str, shard: int, count: int, *, after: bytes | None = None
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The oldest entries of a shard's stream, or the oldest after an entry id, at most `count`."""
        start = "-" if after is None else f"({after.decode()}"
        found = await self._client.xrange(keys.stream(campaign, shard), min=start, count=count)
        return cast("list[tuple[bytes, dict[bytes, bytes]]]", found)

    async def remove_entries(self, campaign: str, shard: int, committed: Sequence[tuple[bytes, bytes]]) -> int:
        """Remove entries by (entry id, batch id); an entry that now carries another batch id stays."""
        pairs = [part for pair in committed for part in pair]
        return int(await self._call("remove_v1", [keys.stream(campaign, shard)], *pairs))

    async def backlog(self, campaign: str, shards: int) -> list[int]:
        """Entries waiting in each shard's stream."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for shard in range(shards):
                pipeline.xlen(keys.stream(campaign, shard))
            return [int(length) for length in await pipeline.execute()]

    async def people(self, campaign: str, shard: int, voters: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        """Add voters per candidate index to the shard's HyperLogLogs and return their estimates (error 0.81%)."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for candidate, hashes in voters.items():
                pipeline.pfadd(keys.people(campaign, shard, candidate), *hashes)
                pipeline.pfcount(keys.people(campaign, shard, candidate))
            replies = await pipeline.execute(raise_on_error=False)  # else the error would quote voters' hashes
        for reply in replies:
            if isinstance(reply, RedisError):
                raise reply
        return dict(zip(voters, replies[1::2], strict=True))

    async def counts(self, campaign: str, shards: int) -> dict[int, int]:
        """Likes per candidate index by the store's own counters, summed over the shards."""
        totals: dict[int, int] = {}
        for counted in await self.shard_counts(campaign, shards):
            for candidate, likes in counted.items():
                totals[candidate] = totals.get(candidate, 0) + likes
        return totals

    async def shard_counts(self, campaign: str, shards: int) -> list[dict[int, int]]:
        """Likes per candidate index by the store's own counters, shard by shard."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for shard in range(shards):
                pipeline.hgetall(keys.counts(campaign, shard))
            replies = await pipeline.execute()
        return [{int(candidate): int(likes) for candidate, likes in found.items()} for found in replies]

    async def check_shard(self, campaign: str, shard: int, ledger: Mapping[int, int], *, is_over: bool) -> Soundness:
        """Take the gate from an open shard that is behind the ledger; close an open one of a campaign that is over."""
        pairs = [str(part) for pair in ledger.items() for part in pair]
        names = [keys.gate(campaign, shard), keys.counts(campaign, shard)]
        return Soundness((await self._call("check_v1", names, "over" if is_over else "published", *pairs)).decode())

    async def bucket_fills(self, campaign: str, window_day: int, places: Sequence[tuple[int, int]]) -> list[int]:
        """Voters in each of the given (shard, bucket) places of a window."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for shard, bucket in places:
                pipeline.hlen(keys.marks(campaign, shard, window_day, bucket))
            return [int(fields) for fields in await pipeline.execute()]

    async def drop_marks(self, rules: Rules, window_day: int) -> int:
        """Remove the dedup marks of one window; returns how many hashes went."""
        removed = 0
        for shard in range(rules.shards):
            for start in range(0, rules.buckets, 1_000):
                stop = min(start + 1_000, rules.buckets)
                names = [keys.marks(rules.id, shard, window_day, bucket) for bucket in range(start, stop)]
                removed += int(await self._client.unlink(*names))
        return removed

    # ---- restore ----------------------------------------------------------------------------------------------------

    async def clear_shard(self, rules: Rules, shard: int) -> None:
        """Remove what a shard may still hold but gate and stream: counts, people and all marks.

        Raises StoreError where the shard is open.
        """
        pattern = keys.tag(rules.id, shard).replace("{", r"\{") + ":*"
        kept = {keys.stream(rules.id, shard), keys.gate(rules.id, shard)}
        scanned = [key.decode() async for key in self._client.scan_iter(match=pattern, count=1_000)]
        found = [key for key in scanned if key not in kept]
        for start in range(0, len(found), 1_000):
            await self._call("clear_v1", [keys.gate(rules.id, shard), *found[start : start + 1_000]])

    async def write_marks(
        self, document: Document, shard: int, window_day: int, voters: Mapping[bytes, Sequence[int]]
    ) -> None:
        """Set what each voter of a shard liked in a window."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for voter, candidates in voters.items():
                bucket = wire.bucket_of(voter, document.rules.buckets)
                key = keys.marks(document.rules.id, shard, window_day, bucket)
                mark = wire.pack_indexes(candidates, document.width)
                pipeline.hset(key, cast("str", wire.mark_field(voter)), cast("str", mark))
            await pipeline.execute()

    async def read_marks(
        self, document: Document, shard: int, window_day: int, voters: Collection[bytes]
    ) -> dict[bytes, tuple[int, ...]]:
        """What each of a shard's voters liked in a window, in one round trip."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for voter in voters:
                bucket = wire.bucket_of(voter, document.rules.buckets)
                key = keys.marks(document.rules.id, shard, window_day, bucket)
                pipeline.hget(key, cast("str", wire.mark_field(voter)))
            found = await pipeline.execute()
        return {v: wire.unpack_indexes(mark or b"", document.width) for v, mark in zip(voters, found, strict=True)}

    async def write_counts(self, campaign: str, shard: int, likes: Mapping[int, int]) -> None:
        """Set a shard's counters."""
        if likes:
            named = {str(candidate): str(count) for candidate, count in likes.items()}
            await self._client.hset(keys.counts(campaign, shard), mapping=cast("Any", named))

    async def time_ms(self) -> int:
        """The store's clock in Unix milliseconds."""
        seconds, micros = await self._client.time()
        return seconds * 1000 + micros // 1000

    async def _call(self, function: str, names: Sequence[str], *args: bytes | str) -> Any:
        try:
            return await self._client.fcall(function, len(names), *names, *args)
        except ResponseError as error:
            raise StoreError(f"{function} was refused by the store: {error}") from error


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else cast("str | None", value)
