"""The Redis/Valkey edge but for the like pipeline (like_link.py): one typed method per server function or key."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from pydantic import ValidationError
from redis.exceptions import RedisError

from dianzan.domain import wire
from dianzan.domain.campaign import Document, Rules
from dianzan.domain.errors import StoreError, StoreUnavailable
from dianzan.domain.limits import KEPT_ENTRIES_MAX, KEPT_LIFE_S
from dianzan.store import durability, keys
from dianzan.store.calls import StoreCalls
from dianzan.store.nodes import StoreNodes

_GATE: Final = struct.Struct(">IHBIQQ")
_CLOSED: Final = b"closed"  # a gate that takes no likes for good
_BEHIND: Final = b"behind"  # of a shard that has lost likes: it takes none until it is rebuilt

Entries = list[tuple[bytes, dict[bytes, bytes]]]  # stream entry id, its fields


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


@contextmanager
def _answering() -> Iterator[None]:
    """Turn a store that is down into the 503 a voter sees."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"The store did not answer ({type(error).__name__}); ask again.") from error


class VoteStore:
    """Typed access to everything in the store but the like pipeline.

    What voters wait for raises StoreUnavailable where the store is down; the rest raises redis.RedisError.
    """

    def __init__(self, nodes: StoreNodes) -> None:
        self._nodes = nodes
        self._calls = StoreCalls(nodes)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._nodes.aclose()

    async def refresh(self) -> None:
        """Learn again which server of a cluster holds what; the caller does so after an error."""
        await self._nodes.refresh()

    async def load_library(self) -> None:
        """Load the function library on every server that does not have this version or a newer one."""
        await self._nodes.known()
        for node in self._nodes.all():
            if (await durability.library_version(node.client) or 0) < durability.LIBRARY_VERSION:
                await node.client.function_load(durability.library_source(), replace=True)

    # ---- campaigns ------------------------------------------------------------------------------------------------

    async def publish_document(self, document: Document) -> None:
        """Store a campaign's document, then name its version in the list the vote API watches.

        Raises StoreError where the store has a later one.
        """
        campaign, version = document.rules.id, str(document.version)
        await self._calls.confirmed("document_v1", keys.document(campaign), version, document.model_dump_json())
        await self._calls.confirmed("announce_v1", keys.CAMPAIGNS, campaign, version)

    async def versions(self) -> dict[str, int]:
        """Campaign id -> version of its published document."""
        node = await self._calls.at(keys.CAMPAIGNS)
        found = await cast("Awaitable[dict[bytes, bytes]]", node.client.hgetall(keys.CAMPAIGNS))
        return {campaign.decode(): int(version) for campaign, version in found.items()}

    async def document(self, campaign: str) -> Document | None:
        """The published document, None where there is none."""
        body = await (await self._calls.at(keys.document(campaign))).client.get(keys.document(campaign))
        try:
            return Document.model_validate_json(body) if body else None
        except ValidationError as error:
            raise StoreError(f"The document of campaign {campaign} cannot be read: {error}") from error

    async def open_gates(self, document: Document, *, first: bool, shards: Collection[int] | None = None) -> None:
        """Open these shards, or all, by the document's rules.

        Raises StoreError where a shard is closed for good, has rules of a later version, or lacks its gate and this is
        not the `first` time; shards already reached stay as they are.
        """
        gate, mode = pack_gate(document), "first" if first else "again"
        for shard in range(document.rules.shards) if shards is None else shards:
            await self._calls.confirmed("open_v1", keys.gate(document.rules.id, shard), gate, mode)

    async def close_gates(self, campaign: str, shards: int) -> None:
        """Close every shard for good: after this returns no like is accepted anywhere."""
        for shard in range(shards):
            await self._calls.confirmed("close_v1", keys.gate(campaign, shard))

    async def take_gate(self, campaign: str, shard: int) -> bool:
        """Take the gate from an open shard that cannot be trusted: it refuses until it is restored.

        Returns whether it was open.
        """
        return bool(await self._calls.confirmed("ungate_v1", keys.gate(campaign, shard)))

    async def gates_missing(self, campaign: str, shards: int) -> list[int]:
        """Shards that have lost their gate, or were found behind the ledger."""
        return [shard for shard, gate in enumerate(await self._gates(campaign, shards)) if gate in (None, _BEHIND)]

    async def gates_behind(self, campaign: str, shards: int) -> list[int]:
        """Shards whose gate was taken since they were found behind the ledger."""
        return [shard for shard, gate in enumerate(await self._gates(campaign, shards)) if gate == _BEHIND]

    async def gates_closed(self, campaign: str, shards: int) -> list[int]:
        """Shards closed for good."""
        return [shard for shard, gate in enumerate(await self._gates(campaign, shards)) if gate == _CLOSED]

    async def gates_open(self, campaign: str, shards: int) -> list[int]:
        """Shards that take likes."""
        gates = await self._gates(campaign, shards)
        return [shard for shard, gate in enumerate(gates) if gate not in (None, _CLOSED, _BEHIND)]

    async def confirm_gates(self, campaign: str, shards: Iterable[int]) -> None:
        """Return where each of these shards has a gate; with a replica: where that holds all of the shard, too.

        Raises StoreError short of that.
        """
        for shard in shards:
            key = keys.gate(campaign, shard)
            if await self._calls.held(key, lambda asked, key=key: asked.get(key)) in (None, _BEHIND):  # type: ignore[misc]
                raise StoreError(f"Shard {shard} of campaign {campaign} has lost its gate meanwhile. Run this again.")

    async def _gates(self, campaign: str, shards: int) -> list[bytes | None]:
        names = [keys.gate(campaign, shard) for shard in range(shards)]
        return await self._calls.each(names, lambda pipeline, name: pipeline.get(name))

    # ---- voters -----------------------------------------------------------------------------------------------------

    async def liked(self, document: Document, window_day: int, voter: bytes) -> tuple[int, ...]:
        """Candidate indexes the voter liked in the window, in order."""
        shard = wire.shard_of(voter, document.rules.shards)
        bucket = wire.bucket_of(voter, document.rules.buckets)
        key = keys.marks(document.rules.id, shard, window_day, bucket)
        with _answering():
            node = await self._calls.at(key)
            mark = await cast("Awaitable[bytes | None]", node.client.hget(key, cast("str", wire.mark_field(voter))))
        return wire.unpack_indexes(mark or b"", document.width)

    async def count_minted(self, campaign: str, network: int, minute: int) -> int:
        """Count one more token for a network in a minute and return how many that makes."""
        key = keys.tokens_minted(campaign, network, minute)
        with _answering():
            pipeline = (await self._calls.at(key)).client.pipeline(transaction=True)
            pipeline.incr(key)
            pipeline.expire(key, 120)
            return int((await pipeline.execute())[0])

    # ---- the worker -------------------------------------------------------------------------------------------------

    async def read_entries(self, campaign: str, shard: int, count: int, *, after: bytes | None = None) -> Entries:
        """The oldest entries of a shard's stream, or the oldest after an entry id, at most `count`.

        With a replica: entries that it holds too, else StoreError. What the ledger learnt of a like that a
        failover then undid, the store would never know again.
        """
        stream, start = keys.stream(campaign, shard), "-" if after is None else f"({after.decode()}"
        return cast(
            "Entries", await self._calls.held(stream, lambda asked: asked.xrange(stream, min=start, count=count))
        )

    async def shard_view(self, campaign: str, shard: int, count: int) -> tuple[dict[int, int], Entries]:
        """The shard's counters per candidate index and at most `count` of its oldest entries, of one instant.

        With a replica: what it holds too, else StoreError.
        """
        counters, stream = keys.counts(campaign, shard), keys.stream(campaign, shard)
        counted, entries = await self._calls.held(
            stream, lambda asked: asked.fcall_ro("view_v1", 2, counters, stream, count)
        )
        return _counts(_pairs(counted)), [(entry_id, _pairs(fields)) for entry_id, fields in entries]

    async def waiting(self, campaign: str, shard: int) -> int:
        """Entries of the shard's stream. With a replica: as it holds them too, else StoreError."""
        stream = keys.stream(campaign, shard)
        return int(await self._calls.held(stream, lambda asked: asked.xlen(stream)))

    async def remove_entries(self, campaign: str, shard: int, committed: Sequence[tuple[bytes, bytes]]) -> int:
        """Remove entries by (entry id, batch id); an entry that now carries another batch id stays."""
        pairs = [part for pair in committed for part in pair]
        return int(await self._calls.call("remove_v1", [keys.stream(campaign, shard)], *pairs))

    async def keep_entries(self, campaign: str, shard: int, committed: Sequence[tuple[bytes, bytes]]) -> int:
        """Remove entries as `remove_entries` does, and keep them in a stream beside, until `drop_kept`.

        Raises redis.OutOfMemoryError, with nothing done, where the store is full.
        """
        names = [keys.stream(campaign, shard), keys.kept(campaign, shard)]
        pairs = [part for pair in committed for part in pair]
        client = (await self._calls.at(names[0])).client
        return int(await client.fcall("keep_v1", 2, *names, str(KEPT_ENTRIES_MAX), str(KEPT_LIFE_S), *pairs))

    async def read_kept(self, campaign: str, shard: int, count: int, *, after: bytes | None = None) -> Entries:
        """Like `read_entries`, of the entries kept; their ids are other ones than in the stream."""
        kept, start = keys.kept(campaign, shard), "-" if after is None else f"({after.decode()}"
        return cast("Entries", await self._calls.held(kept, lambda asked: asked.xrange(kept, min=start, count=count)))

    async def drop_kept(self, campaign: str, shard: int, before_ms: int) -> int:
        """Drop entries kept before an instant of the store's clock; returns how many went."""
        kept = keys.kept(campaign, shard)
        client = (await self._calls.at(kept)).client
        return int(await client.xtrim(kept, minid=str(before_ms), approximate=False))

    async def memory_share(self, campaign: str, shard: int) -> float:
        """Memory that the server of a shard uses, of its limit (0 to 1)."""
        return (await durability.room((await self._calls.at(keys.gate(campaign, shard))).client, [])).memory

    async def clock_ms(self, campaign: str, shard: int) -> int:
        """The clock of the server that holds a shard, in Unix milliseconds."""
        seconds, micros = await (await self._calls.at(keys.gate(campaign, shard))).client.time()
        return int(seconds * 1000 + micros // 1000)

    async def backlog(self, campaign: str, shards: int) -> list[int | None]:
        """Entries waiting in each shard's stream, None where its server does not answer.

        Raises redis.RedisError where none answers.
        """
        names = [keys.stream(campaign, shard) for shard in range(shards)]
        return await self._calls.each(names, lambda pipeline, name: pipeline.xlen(name), partly=True)

    async def people(self, campaign: str, shard: int, voters: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        """Add voters per candidate index to the shard's HyperLogLogs and return their estimates (error 0.81%)."""
        node = await self._calls.at(keys.people(campaign, shard, 0))
        async with node.client.pipeline(transaction=False) as pipeline:
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
        names = [keys.counts(campaign, shard) for shard in range(shards)]
        return [
            _counts(found) for found in await self._calls.each(names, lambda pipeline, name: pipeline.hgetall(name))
        ]

    async def bucket_fills(self, campaign: str, window_day: int, places: Sequence[tuple[int, int]]) -> list[int]:
        """Voters in each of the given (shard, bucket) places of a window."""
        names = [keys.marks(campaign, shard, window_day, bucket) for shard, bucket in places]
        return await self._calls.each(names, lambda pipeline, name: pipeline.hlen(name))

    async def drop_marks(self, rules: Rules, window_day: int) -> int:
        """Remove the dedup marks of one window; returns how many hashes went."""
        removed = 0
        for shard in range(rules.shards):
            for start in range(0, rules.buckets, 1_000):
                stop = min(start + 1_000, rules.buckets)
                names = [keys.marks(rules.id, shard, window_day, bucket) for bucket in range(start, stop)]
                removed += int(await (await self._calls.at(names[0])).client.unlink(*names))
        return removed

    # ---- restore ----------------------------------------------------------------------------------------------------

    async def clear_shard(self, rules: Rules, shard: int) -> None:
        """Remove what a shard may still hold but gate and stream: counts, people, all marks, and entries kept.

        Raises StoreError where the shard is open.
        """
        pattern = keys.tag(rules.id, shard).replace("{", r"\{") + ":*"
        spared = {keys.stream(rules.id, shard), keys.gate(rules.id, shard)}
        node = await self._calls.at(keys.gate(rules.id, shard))
        scanned = [key.decode() async for key in node.client.scan_iter(match=pattern, count=1_000)]
        found = [key for key in scanned if key not in spared]
        for start in range(0, len(found), 1_000):
            await self._calls.call("clear_v1", [keys.gate(rules.id, shard), *found[start : start + 1_000]])

    async def write_marks(
        self, document: Document, shard: int, window_day: int, voters: Mapping[bytes, Sequence[int]]
    ) -> None:
        """Set what each voter of a shard liked in a window."""
        node = await self._calls.at(keys.gate(document.rules.id, shard))
        async with node.client.pipeline(transaction=False) as pipeline:
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
        node = await self._calls.at(keys.gate(document.rules.id, shard))
        async with node.client.pipeline(transaction=False) as pipeline:
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
            key = keys.counts(campaign, shard)
            await (await self._calls.at(key)).client.hset(key, mapping=cast("Any", named))

    async def clocks_ms(self) -> list[int]:
        """Each server's clock in Unix milliseconds."""
        await self._nodes.known()
        times = [await node.client.time() for node in self._nodes.all()]
        return [seconds * 1000 + micros // 1000 for seconds, micros in times]


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _counts(found: Mapping[bytes, bytes]) -> dict[int, int]:
    return {int(candidate): int(likes) for candidate, likes in found.items()}
