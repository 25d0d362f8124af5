"""Removes dedup marks of windows long past, since a mark that expires by itself would trust a single clock."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from redis.exceptions import RedisError

from dianzan import logs
from dianzan.campaign import State
from dianzan.clock import from_ms, now_ms, to_ms
from dianzan.ledger import AWAY, Ledger, StoredCampaign
from dianzan.limits import CLOCK_SKEW_MS_MAX, MARKS_KEPT_DAYS
from dianzan.vote_store import VoteStore

_log = logs.get(__name__)

SWEEP_EVERY_S = 600.0
CLOCK_STEADY_S = 3_600.0  # on one machine the three clocks are one: it must not have jumped for this long


class Sweeper:
    """Drops the marks of a window once it ended MARKS_KEPT_DAYS ago by all clocks: the store's, Postgres's, ours.

    A store or Postgres that is down only puts the sweep off.
    """

    def __init__(self, store: VoteStore, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger
        self._offset_s = time.time() - time.monotonic()
        self._steady_since_s = time.monotonic()

    def steady_s(self) -> float:
        """Seconds for which this machine's clock has not jumped, as far as this process has seen."""
        offset_s = time.time() - time.monotonic()
        if abs(offset_s - self._offset_s) * 1000 > CLOCK_SKEW_MS_MAX:
            self._offset_s, self._steady_since_s = offset_s, time.monotonic()
        return time.monotonic() - self._steady_since_s

    async def run(self) -> None:
        """Sweep every ten minutes for ever, from an hour after the start or the clock's last jump on."""
        while True:
            try:
                if self.steady_s() >= CLOCK_STEADY_S:
                    await self.run_once()
            except (*AWAY, RedisError) as error:
                _log.warning("the sweep is put off", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(SWEEP_EVERY_S)

    async def run_once(self) -> int:
        """Sweep every campaign once; returns the bucket hashes removed, 0 while the clocks disagree."""
        clocks = [now_ms(), *await self._store.clocks_ms(), to_ms(await self._ledger.now())]
        if max(clocks) - min(clocks) > CLOCK_SKEW_MS_MAX:
            _log.warning("the sweep is put off: clocks differ", clocks_ms=clocks)
            return 0
        campaigns = [c for c in await self._ledger.campaigns() if c.state is not State.draft and c.width is not None]
        return sum([await self._sweep(campaign, min(clocks)) for campaign in campaigns])

    async def _sweep(self, campaign: StoredCampaign, at_ms: int) -> int:
        kept_from_ms = to_ms(from_ms(at_ms) - timedelta(days=MARKS_KEPT_DAYS))
        removed = 0
        for day in campaign.rules.window_dates():
            if campaign.swept_through is not None and day <= campaign.swept_through:
                continue
            window = campaign.rules.window_on(day)
            if window.end_ms > kept_from_ms:
                break
            removed += await self._store.drop_marks(campaign.rules, window.day)
            await self._ledger.set_swept(campaign.number, day)
        return removed
