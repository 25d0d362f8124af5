"""One shard's likes from its stream into the ledger, exactly once by identity."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dianzan.domain import wire
from dianzan.domain.errors import EntryUndecodable, StoreFull
from dianzan.domain.limits import ENTRIES_PER_FLUSH_MAX, KEPT_STORE_SHARE, LIKES_PER_FLUSH_MAX
from dianzan.domain.shard import Shard
from dianzan.domain.wire import Entry
from dianzan.ledger.flush import ShardFlush
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.process import faults, logs, metrics
from dianzan.process.trouble import Trouble
from dianzan.store.store import Store
from dianzan.store.streams import RawEntry

_log = logs.get(__name__)

UNDECODABLE_REPORTED_MAX: Final = 10_000  # bounds the memory of what was reported
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Flush:
    """What one flush of one shard did."""

    read: int
    inserted: int
    removed: int
    undecodable: int
    oldest_ms: int | None


NOTHING: Final = Flush(0, 0, 0, 0, None)


class Consumer:
    """Flushes shards. Any number of consumers may run, anywhere, and be killed at any point.

    Store down: nothing is read, the flush is tried again. Postgres down: nothing is removed, likes wait in the
    streams and cost only delay. Killed between COMMIT and removal: the likes are read again and add zero.

    `keep_s`: seconds for which entries that are committed stay in the store beside the streams, for a Postgres that
    comes back older (a standby that lagged, a backup); 0 keeps none. All workers must keep alike.
    """

    def __init__(self, store: Store, ledger: Ledger, *, keep_s: float = 0) -> None:
        self._store, self._ledger, self.keep_s = store, ledger, keep_s
        self._reported: set[tuple[Shard, bytes]] = set()
        self._not_kept = Trouble(
            _log,
            "the store is full: committed likes are not kept for a Postgres that comes back older",
            over="committed likes are kept again",
        )
        self._not_estimated = Trouble(
            _log,
            "the store is full: people are shown too low until the seal; likes are counted right",
            over="people are estimated again",
        )

    async def run_once(self, campaign: StoredCampaign, shard: Shard) -> Flush:
        """Move the oldest likes of one shard into the ledger.

        1. take the shard's advisory lock (it only saves double work), in the transaction that will commit the likes
        2. read the stream from its start
        3. insert the likes that are new, add their number to the counts, commit
        4. remove from the stream exactly what was committed
        """
        async with self._ledger.likes.locked_shard(campaign, shard) as flush:
            if flush is None:
                return NOTHING
            entries, undecodable = await self._read(shard)
            if not entries:
                return Flush(0, 0, 0, undecodable, None)
            faults.hit("flush.before_insert")
            inserted = await self.insert(flush, shard, entries)
            faults.hit("flush.before_commit")
        faults.hit("flush.after_commit")
        removed = await self.remove(shard, entries)
        faults.hit("flush.after_removal")
        return Flush(sum(e.like_count for e in entries), inserted, removed, undecodable, entries[0].time_ms)

    async def insert(self, flush: ShardFlush, shard: Shard, entries: Sequence[Entry]) -> int:
        """Insert the entries' likes in the open transaction; returns how many of them were new."""
        await flush.estimate_people(await self._people(shard, entries))
        return await flush.insert(entries)

    async def remove(self, shard: Shard, entries: Iterable[Entry]) -> int:
        """Remove what is committed from the shard's stream, and keep it beside if that is set; returns how many."""
        committed = [(entry.entry_id, entry.batch) for entry in entries]
        if not committed:
            return 0
        if self.keep_s and await self._has_room(shard):
            try:
                removed = await self._store.streams.keep(shard, committed)
            except StoreFull as error:
                # This flush empties a full store: rather likes that are not kept than likes that wait.
                metrics.FLUSH_ERRORS.labels(error.reason).inc()
                self._not_kept.lasts(str(error), campaign=shard.campaign)
            else:
                self._not_kept.is_over()
                return removed
        return await self._store.streams.remove(shard, committed)

    def unpack(self, shard: Shard, raw: RawEntry) -> Entry | None:
        """A stream's entry, or None for one that nobody here can read; it stays, and is reported once."""
        try:
            return wire.unpack_entry(*raw)
        except EntryUndecodable as error:
            self._report_once(shard, raw[0], error)
            return None

    async def _has_room(self, shard: Shard) -> bool:
        """Whether likes may be kept. A store that fills forgets what it has kept, rather than refuse likes for it."""
        if await self._store.memory_share(shard) < KEPT_STORE_SHARE:
            return True
        tomorrow_ms = await self._store.clock_ms(shard) + _DAY_MS
        if forgotten := await self._store.streams.drop_kept(shard, tomorrow_ms):
            _log.warning(
                "the store fills: what was kept for a Postgres that comes back older is forgotten",
                campaign=shard.campaign,
                shard=shard.number,
                entries=forgotten,
            )
        return False

    async def _read(self, shard: Shard) -> tuple[list[Entry], int]:
        entries: list[Entry] = []
        undecodable = likes = 0
        async for raw in self._oldest(shard):
            entry = self.unpack(shard, raw)
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

    async def _oldest(self, shard: Shard) -> AsyncIterator[RawEntry]:
        # Page after page, so that entries nobody can read do not stand before those behind them.
        last: bytes | None = None
        while page := await self._store.streams.read(shard, ENTRIES_PER_FLUSH_MAX, after=last):
            for raw in page:
                yield raw
            if len(page) < ENTRIES_PER_FLUSH_MAX:
                return
            last = page[-1][0]

    def _report_once(self, shard: Shard, entry_id: bytes, error: EntryUndecodable) -> None:
        # The entry is read again ten times a second; the gauge goes on telling.
        if (shard, entry_id) not in self._reported and len(self._reported) < UNDECODABLE_REPORTED_MAX:
            self._reported.add((shard, entry_id))
            _log.error(
                "a stream entry cannot be read and stays where it is: do what alerts.yml says at EntriesUndecodable",
                campaign=shard.campaign,
                shard=shard.number,
                reason=str(error),
            )

    async def _people(self, shard: Shard, entries: Iterable[Entry]) -> dict[int, int]:
        voters: dict[int, set[bytes]] = {0: set()}
        for entry in entries:
            for ballot in entry.ballots:
                voters[0].add(ballot.voter)
                for candidate in ballot.candidates:
                    voters.setdefault(candidate, set()).add(ballot.voter)
        try:
            people = await self._store.tallies.people(shard, {c: list(hashes) for c, hashes in voters.items()})
        except StoreFull as error:
            # This flush empties a full store: rather an estimate too low until the seal than likes that wait.
            metrics.FLUSH_ERRORS.labels(error.reason).inc()
            self._not_estimated.lasts(str(error), campaign=shard.campaign)
            return {}
        self._not_estimated.is_over()
        return people
