"""Flushes every shard that holds likes, again and again, through whatever store and ledger go through."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final, TypeAlias

from dianzan.domain.campaign import State
from dianzan.domain.errors import LedgerAway, LedgerRefuses, StoreAway, StoreError
from dianzan.domain.limits import SHARDS_AT_ONCE
from dianzan.domain.shard import Shard
from dianzan.domain.windows import now_ms
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.process import logs, metrics
from dianzan.process.trouble import Trouble
from dianzan.store.store import Store
from tally_worker.flush import Consumer, Flush

_log = logs.get(__name__)

BACKOFF_S_MAX: Final = 2.0

Flushed: TypeAlias = tuple[int, StoreError | None]  # the likes read, and the error of a server that is away


class FlushLoop:
    """Flushes every shard of every campaign that may hold likes, until `stop`."""

    def __init__(self, consumer: Consumer, ledger: Ledger, store: Store, *, flush_every_s: float) -> None:
        self._consumer, self._ledger, self._store = consumer, ledger, store
        self._flush_every_s = flush_every_s
        self._stopping = asyncio.Event()
        self.last_success_s = 0.0
        self.disturbed = asyncio.Event()  # store or ledger were away: what they hold may no longer agree
        self._failing = Trouble(
            _log, "a round of flushes failed; its likes wait in the store, none is lost", over="likes are flushed again"
        )
        self._refused: dict[str, Trouble] = {}  # by campaign

    def stop(self) -> None:
        """End after the flush that runs now."""
        self._stopping.set()

    async def run(self) -> None:
        """Flush until stopped; on an error wait, twice as long each time up to 2 s, and go on."""
        backoff_s = self._flush_every_s
        while not self._stopping.is_set():
            try:
                likes = await self.flush_all()
            except (LedgerAway, StoreError) as error:
                metrics.FLUSH_ERRORS.labels(error.reason).inc()
                self._failing.lasts(str(error))
                self.disturbed.set()
                backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
                await self._pause(backoff_s)
                await self._store.find_nodes()
            else:
                self._failing.is_over()
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
        away: StoreError | None = None
        for campaign in await self._ledger.campaigns.all():
            if campaign.state not in (State.published, State.closed):
                metrics.forget(campaign.id)
                continue
            waiting = await self._store.streams.backlog(campaign.shards)
            if None in waiting:
                unheard = f"{waiting.count(None)} of {len(waiting)} shards of {campaign.id}"
                away = StoreAway(f"The servers that hold {unheard} do not answer.")
            shards = [shard for shard, entries in zip(campaign.shards, waiting, strict=True) if entries]
            random.shuffle(shards)
            flushed, error = await self._flush_campaign(campaign, shards)
            likes += flushed
            away = away or error
            metrics.BACKLOG.labels(campaign.id).set(sum(entries or 0 for entries in waiting))
        if away is not None:
            raise away
        return likes

    async def _flush_campaign(self, campaign: StoredCampaign, shards: Sequence[Shard]) -> Flushed:
        """Likes the ledger refuses (a partition is gone) wait in their streams and hold back no other campaign."""
        refused = self._refused.get(campaign.id)
        try:
            flushed = await self._flush_shards(campaign, shards)
        except LedgerRefuses as error:
            metrics.FLUSH_ERRORS.labels(error.reason).inc()
            if refused is None:
                refused = self._refused[campaign.id] = _refusing(campaign)
            refused.lasts(str(error))
            return 0, None
        if refused is not None and shards:
            refused.is_over()
        return flushed

    async def _flush_shards(self, campaign: StoredCampaign, shards: Sequence[Shard]) -> Flushed:
        """Flush all shards, some at once; the likes read, and the error of a server that is away.

        While Postgres inserts the likes of one shard, those of the next are read and packed.
        """
        flushes: list[Flush] = []
        away: list[StoreError] = []
        left = iter(shards)

        async def work() -> None:
            for shard in left:
                try:
                    flushes.append(await self._flush_shard(campaign, shard))
                except StoreError as error:
                    away.append(error)

        ended = await asyncio.gather(*(work() for _ in range(SHARDS_AT_ONCE)), return_exceptions=True)
        errors = [error for error in ended if error is not None]
        if errors:
            # Raised when all have ended; a refusal of one campaign's likes last, since it does not end the round.
            raise min(errors, key=lambda error: isinstance(error, LedgerRefuses))
        oldest_ms = min((flush.oldest_ms for flush in flushes if flush.oldest_ms is not None), default=now_ms())
        metrics.BACKLOG_AGE_SECONDS.labels(campaign.id).set(max(0, now_ms() - oldest_ms) / 1000)
        metrics.UNDECODABLE.labels(campaign.id).set(sum(flush.undecodable for flush in flushes))
        return sum(flush.read for flush in flushes), away[-1] if away else None

    async def _flush_shard(self, campaign: StoredCampaign, shard: Shard) -> Flush:
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


def _refusing(campaign: StoredCampaign) -> Trouble:
    return Trouble(
        _log,
        "the ledger refuses a campaign's likes; they wait in the store, and none is lost",
        over="the ledger takes the campaign's likes again",
        level="error",
        campaign=campaign.id,
    )
