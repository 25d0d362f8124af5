"""Streams into the ledger, exactly once by identity: `run_once` does the work, `run` loops."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.exceptions import OutOfMemoryError, RedisError

from dianzan.domain import wire
from dianzan.domain.campaign import State
from dianzan.domain.errors import EntryUndecodable, StoreError
from dianzan.domain.limits import (
    ENTRIES_PER_FLUSH_MAX,
    KEPT_PER_READ,
    KEPT_STORE_SHARE,
    LIKES_PER_FLUSH_MAX,
    SHARDS_AT_ONCE,
)
from dianzan.domain.windows import now_ms
from dianzan.domain.wire import Entry
from dianzan.ledger.flush import ShardFlush
from dianzan.ledger.ledger import AWAY, REFUSED, Ledger, StoredCampaign
from dianzan.process import faults, logs, metrics
from dianzan.store.vote_store import Entries, VoteStore

_log = logs.get(__name__)

BACKOFF_S_MAX = 2.0
UNDECODABLE_REPORTED_MAX = 10_000  # bounds the memory of what was reported
LOCK_TRIES, LOCK_PAUSE_S = 20, 0.05  # a second: longer than another worker's flush of a full page, 0.2 s


@dataclass(frozen=True, slots=True)
class Flush:
    """What one flush of one shard did."""

    read: int
    inserted: int
    removed: int
    undecodable: int
    oldest_ms: int | None


Flushed = tuple[int, RedisError | StoreError | None]
NOTHING = Flush(0, 0, 0, 0, None)


class Consumer:
    """Flushes shards. Any number of consumers may run, anywhere, and be killed at any point.

    Store down: nothing is read, the flush is tried again. Postgres down: nothing is removed, likes wait in the
    streams and cost only delay. Killed between COMMIT and removal: the likes are read again and add zero.

    `keep_s`: seconds for which entries that are committed stay in the store beside the streams, for a Postgres that
    comes back older (a standby that lagged, a backup); 0 keeps none. All workers must keep alike.
    """

    def __init__(self, store: VoteStore, ledger: Ledger, *, keep_s: float = 0) -> None:
        self._store, self._ledger, self._keep_s = store, ledger, keep_s
        self._reported: set[tuple[str, int, bytes]] = set()

    async def run_once(self, campaign: StoredCampaign, shard: int) -> Flush:
        """Move the oldest likes of one shard into the ledger.

        1. take the shard's advisory lock (it only saves double work), in the transaction that will commit the likes
        2. read the stream from its start
        3. insert the likes that are new, add their number to the counts, commit
        4. remove from the stream exactly what was committed
        """
        async with self._ledger.locked_shard(campaign.number, shard) as flush:
            if flush is None:
                return NOTHING
            entries, undecodable = await self._read(campaign.id, shard)
            if not entries:
                return Flush(0, 0, 0, undecodable, None)
            faults.hit("flush.before_insert")
            inserted = await self._insert(flush, campaign.id, shard, entries)
            faults.hit("flush.before_commit")
        faults.hit("flush.after_commit")
        removed = await self._remove(campaign.id, shard, entries)
        faults.hit("flush.after_removal")
        return Flush(sum(e.like_count for e in entries), inserted, removed, undecodable, entries[0].time_ms)

    async def reconcile(self, campaign: StoredCampaign, shard: int) -> dict[int, int] | None:
        """By how many likes of each candidate the store is ahead of the ledger (behind: negative); equal ones left out.

        Where it is ahead, what is kept of the shard is put back into the ledger first. Kept entries are dropped only
        here, where nothing is missing, and by their age when the comparison began: while Postgres is away they stay,
        however long, until it has been seen whether it came back older.

        None where nothing can be said now; see `_compare`.
        """
        if not self._keep_s:
            return await self._compare(campaign, shard)
        began_ms = await self._store.clock_ms(campaign.id, shard)
        drift = await self._compare(campaign, shard)
        if drift and max(drift.values()) > 0:
            await self.put_back(campaign, shard)
            drift = await self._compare(campaign, shard)
        if drift == {}:
            await self._store.drop_kept(campaign.id, shard, began_ms - int(self._keep_s * 1000))
        return drift

    async def _compare(self, campaign: StoredCampaign, shard: int) -> dict[int, int] | None:
        """What `reconcile` says, before anything is put back.

        A flush that compares on its way. The store's counters and its whole stream are read at one instant, when the
        counters are the likes committed and those in the stream, each once. All of the stream is inserted, and what is
        new added to the counts; the shard's lock keeps every other worker from committing meanwhile. So the counts
        must then equal the counters, candidate by candidate.

        From a shard that is behind the gate is taken before the lock is given back: a restore that waits for the lock
        must find it gone, and not be undone by what was seen before.

        None where nothing can be said now: another worker holds the lock, the stream is longer than one flush or holds
        an entry that nobody can read, or the shard has lost its gate meanwhile.
        """
        async with self._locked(campaign, shard) as flush:
            if flush is None:
                return None
            counters, raw = await self._store.shard_view(campaign.id, shard, ENTRIES_PER_FLUSH_MAX + 1)
            entries = _whole(raw)
            if entries is None:
                return None
            if entries:
                await self._insert(flush, campaign.id, shard, entries)
            counts = await flush.counts()
            drift = {index: counters.get(index, 0) - counts.get(index, 0) for index in counters.keys() | counts.keys()}
            behind = any(ahead < 0 for ahead in drift.values())
            if behind and not await self._store.take_gate(campaign.id, shard):
                return None
        await self._remove(campaign.id, shard, entries)
        return {index: ahead for index, ahead in drift.items() if ahead}

    async def put_back(self, campaign: StoredCampaign, shard: int) -> None:
        """Insert what is kept of a shard, a page a transaction; what the ledger has adds zero.

        Kept entries were all counted by this store, so what they add brings the ledger no further than the store.
        Broken off it is done again, and where another worker keeps the lock it is left to the next comparison.
        """
        inserted = 0
        after: bytes | None = None
        while True:
            async with self._locked(campaign, shard) as flush:
                if flush is None:
                    break
                # Read inside the lock: a restore that gives likes up has cleared them, or waits for this page.
                page = await self._store.read_kept(campaign.id, shard, KEPT_PER_READ, after=after)
                if not page:
                    break
                entries = [e for e in (self._unpack(campaign.id, shard, *each) for each in page) if e is not None]
                added = await self._insert(flush, campaign.id, shard, entries)
            after = page[-1][0]
            metrics.PUT_BACK.labels(campaign.id).inc(added)
            inserted += added
        if inserted:
            _log.error("likes that the ledger had lost are put back", campaign=campaign.id, shard=shard, likes=inserted)

    @asynccontextmanager
    async def _locked(self, campaign: StoredCampaign, shard: int) -> AsyncIterator[ShardFlush | None]:
        """`locked_shard`, after the flush that another worker may be in the middle of; None where that does not end."""
        for _ in range(LOCK_TRIES):
            async with self._ledger.locked_shard(campaign.number, shard) as flush:
                if flush is not None:
                    yield flush
                    return
            await asyncio.sleep(LOCK_PAUSE_S)
        yield None

    async def _insert(self, flush: ShardFlush, campaign: str, shard: int, entries: Sequence[Entry]) -> int:
        await flush.estimate_people(await self._people(campaign, shard, entries))
        return await flush.insert(entries)

    async def _remove(self, campaign: str, shard: int, entries: Iterable[Entry]) -> int:
        committed = [(entry.entry_id, entry.batch) for entry in entries]
        if not committed:
            return 0
        if self._keep_s and await self._has_room(campaign, shard):
            try:
                return await self._store.keep_entries(campaign, shard, committed)
            except OutOfMemoryError as error:
                # This flush empties a full store: rather likes that are not kept than likes that wait.
                metrics.FLUSH_ERRORS.labels(type(error).__name__).inc()
                _log.warning("committed likes are not kept: the store is full", campaign=campaign, shard=shard)
        return await self._store.remove_entries(campaign, shard, committed)

    async def _has_room(self, campaign: str, shard: int) -> bool:
        """Whether likes may be kept. A store that fills forgets what it has kept, rather than refuse likes for it."""
        if await self._store.memory_share(campaign, shard) < KEPT_STORE_SHARE:
            return True
        tomorrow_ms = await self._store.clock_ms(campaign, shard) + 86_400_000
        if forgotten := await self._store.drop_kept(campaign, shard, tomorrow_ms):
            _log.warning(
                "the store fills: what was kept is forgotten", campaign=campaign, shard=shard, entries=forgotten
            )
        return False

    async def _read(self, campaign: str, shard: int) -> tuple[list[Entry], int]:
        entries: list[Entry] = []
        undecodable = likes = 0
        async for entry_id, fields in self._oldest(campaign, shard):
            entry = self._unpack(campaign, shard, entry_id, fields)
            if entry is None:
                undecodable += 1
                continue
            likes += entry.like_count
            if entries and likes > LIKES_PER_FLUSH_MAX:
                break
            entries.append(entry)
            if len(entries) == ENTRIES_PER_FLUSH_MAX:
                break
        return entries, undecodable

    async def _oldest(self, campaign: str, shard: int) -> AsyncIterator[tuple[bytes, dict[bytes, bytes]]]:
        # Page after page, so that entries nobody can read do not stand before those behind them.
        last: bytes | None = None
        while page := await self._store.read_entries(campaign, shard, ENTRIES_PER_FLUSH_MAX, after=last):
            for entry in page:
                yield entry
            if len(page) < ENTRIES_PER_FLUSH_MAX:
                return
            last = page[-1][0]

    def _unpack(self, campaign: str, shard: int, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry | None:
        """None where nobody here can read it."""
        try:
            return wire.unpack_entry(entry_id, fields)
        except EntryUndecodable as error:
            self._report_once(campaign, shard, entry_id, error)
            return None

    def _report_once(self, campaign: str, shard: int, entry_id: bytes, error: EntryUndecodable) -> None:
        # The entry is read again ten times a second; the gauge goes on telling.
        if (campaign, shard, entry_id) not in self._reported and len(self._reported) < UNDECODABLE_REPORTED_MAX:
            self._reported.add((campaign, shard, entry_id))
            _log.error("an entry stays in its stream", campaign=campaign, shard=shard, reason=str(error))

    async def _people(self, campaign: str, shard: int, entries: Iterable[Entry]) -> dict[int, int]:
        voters: dict[int, set[bytes]] = {0: set()}
        for entry in entries:
            for voter, _class, _publisher, _network, candidates in entry.ballots:
                voters[0].add(voter)
                for candidate in candidates:
                    voters.setdefault(candidate, set()).add(voter)
        try:
            return await self._store.people(campaign, shard, {index: list(found) for index, found in voters.items()})
        except OutOfMemoryError as error:
            # This flush empties a full store: rather an estimate too low until the seal than likes that wait.
            metrics.FLUSH_ERRORS.labels(type(error).__name__).inc()
            _log.warning("people are not estimated: the store is full", campaign=campaign, shard=shard)
            return {}


def _whole(raw: Entries) -> list[Entry] | None:
    """The entries of a stream that one flush can take, None for a longer one or where one cannot be read."""
    try:
        entries = [wire.unpack_entry(entry_id, fields) for entry_id, fields in raw]
    except EntryUndecodable:
        return None
    likes = sum(entry.like_count for entry in entries)
    return entries if len(entries) <= ENTRIES_PER_FLUSH_MAX and likes <= LIKES_PER_FLUSH_MAX else None


async def find_nodes(store: VoteStore) -> None:
    """Learn where a cluster's shards are now: a failover may have moved them."""
    try:
        await store.refresh()
    except (RedisError, OSError, TimeoutError) as error:
        _log.warning("the cluster's slots are not known anew", reason=str(error))


class FlushLoop:
    """Flushes every shard of every campaign that may hold likes, until `stop`."""

    def __init__(self, consumer: Consumer, ledger: Ledger, store: VoteStore, *, flush_every_s: float) -> None:
        self._consumer, self._ledger, self._store = consumer, ledger, store
        self._flush_every_s = flush_every_s
        self._stopping = asyncio.Event()
        self._gauged: set[str] = set()
        self.last_success_s = 0.0
        self.disturbed = asyncio.Event()  # store or ledger were away: what they hold may no longer agree

    def stop(self) -> None:
        """End after the flush that runs now."""
        self._stopping.set()

    async def run(self) -> None:
        """Flush until stopped; on an error wait, twice as long each time up to 2 s, and go on."""
        backoff_s = self._flush_every_s
        while not self._stopping.is_set():
            try:
                likes = await self.flush_all()
            except (*AWAY, RedisError, StoreError) as error:
                metrics.FLUSH_ERRORS.labels(type(error).__name__).inc()
                _log.warning("a flush will be done again", reason=f"{type(error).__name__}: {error}")
                self.disturbed.set()
                backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
                await self._pause(backoff_s)
                await find_nodes(self._store)
            else:
                backoff_s = self._flush_every_s
                self.last_success_s = time.monotonic()
                metrics.ROUND_TIMESTAMP.set_to_current_time()
                if not likes:
                    await self._pause(self._flush_every_s)

    async def flush_all(self) -> int:
        """One round over all shards; returns the likes read. Shards in random order, so that workers spread.

        A store server that is away holds back no shard of another; its error is raised at the end of the round.
        """
        likes = 0
        away: RedisError | StoreError | None = None
        for campaign in await self._ledger.campaigns():
            if campaign.state not in (State.published, State.closed):
                self._forget_gauges(campaign.id)
                continue
            waiting = await self._store.backlog(campaign.id, campaign.rules.shards)
            if None in waiting:
                away = StoreError("a server of the store does not answer")
            shards = [shard for shard, entries in enumerate(waiting) if entries]
            random.shuffle(shards)
            flushed, error = await self._flush_campaign(campaign, shards)
            likes += flushed
            away = away or error
            metrics.BACKLOG.labels(campaign.id).set(sum(entries or 0 for entries in waiting))
            self._gauged.add(campaign.id)
        if away is not None:
            raise away
        return likes

    def _forget_gauges(self, campaign: str) -> None:
        # A sealed campaign has no backlog; its last gauge would stand for ever.
        for gauge in (metrics.BACKLOG, metrics.BACKLOG_AGE_SECONDS, metrics.UNDECODABLE):
            if campaign in self._gauged:
                gauge.remove(campaign)
        self._gauged.discard(campaign)

    async def _flush_campaign(self, campaign: StoredCampaign, shards: Sequence[int]) -> Flushed:
        """Likes the ledger refuses (a partition is gone) wait in their streams and hold back no other campaign."""
        try:
            return await self._flush_shards(campaign, shards)
        except REFUSED as error:
            metrics.FLUSH_ERRORS.labels(type(error).__name__).inc()
            _log.error("the ledger refuses a campaign's likes; they wait", campaign=campaign.id, reason=str(error))
            return 0, None

    async def _flush_shards(self, campaign: StoredCampaign, shards: Sequence[int]) -> Flushed:
        """Flush all shards, some at once; the likes read, and the error of a server that is away.

        While Postgres inserts the likes of one shard, those of the next are read and packed.
        """
        flushes: list[Flush] = []
        away: list[RedisError | StoreError] = []
        left = iter(shards)

        async def work() -> None:
            for shard in left:
                try:
                    flushes.append(await self._flush_shard(campaign, shard))
                except (RedisError, StoreError) as error:
                    away.append(error)

        ended = await asyncio.gather(*(work() for _ in range(SHARDS_AT_ONCE)), return_exceptions=True)
        errors = [error for error in ended if error is not None]
        if (
            errors
        ):  # raised when all have ended; a refusal of one campaign's likes last, since it does not end the round
            errors.sort(key=lambda error: isinstance(error, REFUSED))
            raise errors[0]
        oldest_ms = min((flush.oldest_ms for flush in flushes if flush.oldest_ms is not None), default=now_ms())
        metrics.BACKLOG_AGE_SECONDS.labels(campaign.id).set(max(0, now_ms() - oldest_ms) / 1000)
        metrics.UNDECODABLE.labels(campaign.id).set(sum(flush.undecodable for flush in flushes))
        return sum(flush.read for flush in flushes), away[-1] if away else None

    async def _flush_shard(self, campaign: StoredCampaign, shard: int) -> Flush:
        started = time.perf_counter()
        flush = await self._consumer.run_once(campaign, shard)
        if flush.oldest_ms is not None:
            metrics.FLUSH_SECONDS.observe(time.perf_counter() - started)
            metrics.FLUSHED.labels(campaign.id, "inserted").inc(flush.inserted)
            metrics.FLUSHED.labels(campaign.id, "duplicate").inc(flush.read - flush.inserted)
        return flush

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
