"""Compares the store with the ledger, shard by shard, and rebuilds shards that have lost likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from dianzan.domain import wire
from dianzan.domain.campaign import State
from dianzan.domain.errors import CampaignError, EntryUndecodable, LedgerAway, LedgerRefuses, StoreError
from dianzan.domain.limits import ENTRIES_PER_FLUSH_MAX, KEPT_PER_READ, LIKES_PER_FLUSH_MAX, SHARD_LOCK_WAIT_S
from dianzan.domain.shard import Shard
from dianzan.domain.wire import Entry
from dianzan.ledger.flush import ShardFlush
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.life.restore import Restorer
from dianzan.process import logs, metrics
from dianzan.process.trouble import Trouble
from dianzan.store.store import Store
from dianzan.store.streams import RawEntry
from tally_worker.flush import Consumer

_log = logs.get(__name__)

RECONCILE_EVERY_S: Final = 60.0  # a minute of likes is the most that a store behind the ledger counts twice
SETTLE_S: Final = 2.0  # after a disturbance; a failover has then named its primary, or this look is put off
DRAIN_S_MAX: Final = 30.0  # of a shard's stream before it is rebuilt; it takes no likes, and a flush takes 0.2 s
LOCK_PAUSE_S: Final = 0.05

# What is said of a difference: which side has lost likes, and what follows from it.
_DIFFER: Final = {
    "behind": "the store has lost likes that the ledger holds; their shards refuse until they are rebuilt",
    "ahead": "the ledger has lost likes that the store counts: do what alerts.yml says at LedgerBehind",
    "foreign": "the ledger holds likes that the store never took, and the seal stays shut until somebody decides: "
    "do what alerts.yml says at ForeignLikes",
}

Drift = dict[int, int]  # candidate index -> likes by which the store is ahead of the ledger (behind: negative)


class Comparison:
    """Tells by how many likes a shard's store and ledger differ, and puts back what the ledger has lost."""

    def __init__(self, store: Store, ledger: Ledger, consumer: Consumer) -> None:
        self._store, self._ledger, self._consumer = store, ledger, consumer
        self.foreign: set[Shard] = set()  # found behind last, though the store has lost nothing

    async def drift(self, campaign: StoredCampaign, shard: Shard) -> Drift | None:
        """By how many likes of each candidate the store is ahead of the ledger; equal candidates are left out.

        If it is ahead, what is kept of the shard is put back into the ledger first. Kept entries are dropped only
        here, when nothing is missing, and by their age when the comparison began: while Postgres is away they stay,
        however long, until it has been seen whether it came back older.

        None if nothing can be said now; see `_compare`.
        """
        keep_s = self._consumer.keep_s
        if not keep_s:
            return await self._compare(campaign, shard)
        began_ms = await self._store.clock_ms(shard)
        drift = await self._compare(campaign, shard)
        if drift and max(drift.values()) > 0:
            await self.put_back(campaign, shard)
            drift = await self._compare(campaign, shard)
        if drift == {}:
            await self._store.streams.drop_kept(shard, began_ms - int(keep_s * 1000))
        return drift

    async def put_back(self, campaign: StoredCampaign, shard: Shard) -> None:
        """Insert what is kept of a shard, a page a transaction; what the ledger has adds zero.

        Kept entries were all counted by this store, so what they add brings the ledger no further than the store.
        If it breaks off it is done again; if another worker keeps the lock it is left to the next comparison.
        """
        inserted = 0
        after: bytes | None = None
        while True:
            async with self._locked(campaign, shard) as flush:
                if flush is None:
                    break
                # Read inside the lock: a restore that gives likes up has cleared them, or waits for this page.
                page = await self._store.streams.read_kept(shard, KEPT_PER_READ, after=after)
                if not page:
                    break
                entries = [entry for raw in page if (entry := self._consumer.unpack(shard, raw)) is not None]
                added = await self._consumer.insert(flush, shard, entries)
            after = page[-1][0]
            metrics.PUT_BACK.labels(campaign.id).inc(added)
            inserted += added
        if inserted:
            _log.error(
                "likes that the ledger had lost are put back", campaign=campaign.id, shard=shard.number, likes=inserted
            )

    async def _compare(self, campaign: StoredCampaign, shard: Shard) -> Drift | None:
        """What `drift` says, before anything is put back.

        A flush that compares on its way. The store's counters and its whole stream are read at one instant, when the
        counters are the likes committed and those in the stream, each once. All of the stream is inserted, and what is
        new added to the counts; the shard's lock keeps every other worker from committing meanwhile. So the counts
        must then equal the counters, candidate by candidate.

        From a shard that is behind the gate is taken before the lock is given back: a restore that waits for the lock
        must find it gone, and not be undone by what was seen before. It stays if the store has lost nothing since the
        last agreement: the ledger has then been given likes by somebody else. Once such likes are known, nothing is
        taken for lost any more, or a restart of the store would bring them in.

        None if nothing can be said now: another worker holds the lock, the stream is longer than one flush or holds
        an entry that nobody can read, or the shard has lost its gate meanwhile.
        """
        async with self._locked(campaign, shard) as flush:
            if flush is None:
                return None
            life = await self._store.agreements.life(shard)
            counters, raw = await self._store.streams.with_counters(shard, ENTRIES_PER_FLUSH_MAX + 1)
            entries = _whole(raw)
            if entries is None:
                return None
            if entries:
                await self._consumer.insert(flush, shard, entries)
            counts = await flush.counts()
            drift = {index: counters.get(index, 0) - counts.get(index, 0) for index in counters.keys() | counts.keys()}
            behind = any(ahead < 0 for ahead in drift.values())
            lost = behind and not campaign.foreign_since and not await self._store.agreements.unbroken(shard)
            self.foreign.discard(shard)
            if behind and not lost:
                self.foreign.add(shard)
            if lost and not await self._store.gates.take(shard):
                return None
        await self._consumer.remove(shard, entries)
        drift = {index: ahead for index, ahead in drift.items() if ahead}
        if not drift and life is not None:
            await self._store.agreements.note(shard, life)
        return drift

    @asynccontextmanager
    async def _locked(self, campaign: StoredCampaign, shard: Shard) -> AsyncIterator[ShardFlush | None]:
        """`locked_shard`, after the flush that another worker may be in the middle of; None if that does not end."""
        for _ in range(int(SHARD_LOCK_WAIT_S / LOCK_PAUSE_S)):
            async with self._ledger.likes.locked_shard(campaign, shard) as flush:
                if flush is not None:
                    yield flush
                    return
            await asyncio.sleep(LOCK_PAUSE_S)
        yield None


class Reconciler:
    """Looks every minute, at the start, and soon after the store or Postgres was away.

    A shard behind the ledger has lost marks too (its store was brought back from an older copy) and would count their
    likes again: its gate is taken, and whichever worker comes first rebuilds it from the ledger. A store that has lost
    nothing is never rebuilt from a ledger with more: those likes are an alarm, and keep the seal shut. A shard ahead
    shows that the ledger has lost rows (Postgres was brought back): what the store has kept of them is put back. For
    the rest nothing is changed, since the store is then the only witness; an operator decides (`dianzan restore
    --accept-ledger`). A shard that had no gate before is left to `dianzan restore`. What is closed in the ledger and
    open in the store is closed again. A store or Postgres that is down only puts the look off, until they answer.
    """

    def __init__(self, store: Store, ledger: Ledger, comparison: Comparison, restorer: Restorer) -> None:
        self._store, self._ledger, self._comparison, self._restorer = store, ledger, comparison, restorer
        self._away = Trouble(
            _log, "the comparison of store and ledger is put off", over="store and ledger are compared again", quiet_s=0
        )

    async def run(self, disturbed: asyncio.Event) -> None:
        """Look for ever."""
        while True:
            try:
                await self.run_once()
            except (LedgerAway, StoreError) as error:
                self._away.lasts(str(error))
                disturbed.set()  # or it would wait a minute, though the flush has long found the store again
                await self._store.find_nodes()  # no flush asks a store whose campaigns are all sealed
            else:
                self._away.is_over()
            try:
                async with asyncio.timeout(RECONCILE_EVERY_S):
                    await disturbed.wait()
                await asyncio.sleep(SETTLE_S)
                disturbed.clear()
            except TimeoutError:
                continue

    async def run_once(self) -> None:
        """Look at every shard of every campaign once."""
        for campaign in await self._ledger.campaigns.all():
            if campaign.state.is_over:
                await self._close_again(campaign)
            if campaign.state in (State.published, State.closed):
                try:
                    await self._look(campaign)
                except LedgerRefuses as error:  # as in the flush: its likes wait, and hold back no other campaign
                    _log.error(
                        "the ledger refuses a campaign's likes; it is not compared",
                        campaign=campaign.id,
                        reason=str(error),
                    )
        metrics.RECONCILED_TIMESTAMP.set_to_current_time()

    async def _close_again(self, campaign: StoredCampaign) -> None:
        if await self._store.gates.taking_likes(campaign.shards):
            _log.error("the store is an older copy; a campaign that is over is closed again", campaign=campaign.id)
            await self._store.gates.close(campaign.shards)

    async def _look(self, campaign: StoredCampaign) -> None:
        metrics.begin(campaign.id)
        missing = await self._store.gates.missing(campaign.shards)
        looked_at = [shard for shard in campaign.shards if shard not in missing]
        found = {shard.number: await self._comparison.drift(campaign, shard) for shard in looked_at}
        drifts = {number: drift for number, drift in found.items() if drift}
        of_others = {shard.number for shard in self._comparison.foreign if shard.campaign == campaign.id}
        differences = {
            "behind": _by_shard(drifts, -1, of=drifts.keys() - of_others),
            "ahead": _by_shard(drifts, 1),
            "foreign": _by_shard(drifts, -1, of=of_others),
        }
        if differences["foreign"] and not campaign.foreign_since:
            await self._ledger.campaigns.set_foreign(campaign, found=True)
        elif campaign.foreign_since and not missing and all(drift == {} for drift in found.values()):
            await self._ledger.campaigns.set_foreign(campaign, found=False)  # every shard was compared: they are gone
        for direction, by_shard in differences.items():
            likes = sum(by_shard.values())
            metrics.DRIFT.labels(campaign.id, direction).set(likes)
            if likes:
                _log.error(_DIFFER[direction], campaign=campaign.id, likes=likes, likes_by_shard=by_shard)
        behind = await self._store.gates.behind(campaign.shards)
        await self._tell_of_lost(campaign, [shard for shard in missing if shard not in behind])
        for shard in behind:
            await self._comparison.put_back(campaign, shard)  # a rebuild clears what is kept
        if behind:
            await self._repair(campaign.id, behind)

    async def _tell_of_lost(self, campaign: StoredCampaign, shards: Sequence[Shard]) -> None:
        """Nothing else tells of them: such a store answers, keeps its settings and has room."""
        if shards and (lost := await self._store.gates.missing(shards)):  # not those that are restored by now
            _log.warning(
                "the store has lost shards, and they refuse every like: run dianzan restore",
                campaign=campaign.id,
                shards=[shard.number for shard in lost],
            )

    async def _repair(self, campaign: str, shards: Collection[Shard]) -> None:
        try:
            restored = await self._restorer.restore(campaign, drain_s_max=DRAIN_S_MAX, only=shards)
        except CampaignError as error:
            numbers = [shard.number for shard in shards]
            _log.error(
                "shards that have lost likes are not rebuilt, and refuse every like; tried again within a minute",
                campaign=campaign,
                shards=numbers,
                reason=str(error),
            )
            return
        metrics.REPAIRED.labels(campaign).inc(len(restored.shards))
        numbers = [shard.number for shard in restored.shards]
        _log.error(
            "shards that had lost likes are rebuilt; find out why the store had lost them",
            campaign=campaign,
            shards=numbers,
        )


def _whole(page: list[RawEntry]) -> list[Entry] | None:
    """The entries of a stream that one flush can take, None for a longer one or if one cannot be read."""
    try:
        entries = [wire.unpack_entry(*raw) for raw in page]
    except EntryUndecodable:
        return None
    likes = sum(entry.like_count for entry in entries)
    return entries if len(entries) <= ENTRIES_PER_FLUSH_MAX and likes <= LIKES_PER_FLUSH_MAX else None


def _by_shard(drifts: Mapping[int, Drift], sign: int, *, of: Collection[int] | None = None) -> dict[int, int]:
    """How many likes the store is ahead (sign 1) or behind (-1) in each shard where it is."""
    chosen = {shard: drift for shard, drift in drifts.items() if of is None or shard in of}
    likes = {shard: sum(max(ahead * sign, 0) for ahead in drift.values()) for shard, drift in chosen.items()}
    return {shard: number for shard, number in likes.items() if number}
