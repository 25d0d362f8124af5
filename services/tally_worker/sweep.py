"""Removes dedup marks of windows long past, since a mark that expires by itself would trust a single clock."""

from __future__ import annotations

import asyncio
import time

from dianzan.domain.campaign import State
from dianzan.domain.errors import LedgerAway, StoreError
from dianzan.domain.limits import CLOCK_SKEW_MS_MAX
from dianzan.domain.windows import now_ms, to_ms
from dianzan.ledger.ledger import Ledger
from dianzan.life.old_marks import drop_old_marks
from dianzan.process import logs
from dianzan.store.store import Store

_log = logs.get(__name__)

SWEEP_EVERY_S = 600.0
CLOCK_STEADY_S = 3_600.0  # on one machine the three clocks are one: it must not have jumped for this long


class Sweeper:
    """Drops the marks of a window once it ended MARKS_STAND_DAYS ago by all clocks: the store's, Postgres's, ours.

    A store or Postgres that is down only puts the sweep off.
    """

    def __init__(self, store: Store, ledger: Ledger) -> None:
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
            except (LedgerAway, StoreError) as error:
                _log.warning("the sweep of old marks is put off ten minutes", reason=str(error))
            await asyncio.sleep(SWEEP_EVERY_S)

    async def run_once(self) -> int:
        """Sweep every campaign once; returns the bucket hashes removed, 0 while the clocks disagree."""
        own_ms, stores_ms, ledger_ms = now_ms(), await self._store.clocks_ms(), to_ms(await self._ledger.now())
        clocks = [own_ms, *stores_ms, ledger_ms]
        if max(clocks) - min(clocks) > CLOCK_SKEW_MS_MAX:
            _log.warning(
                "the sweep of old marks is put off: clocks differ, set the one that is wrong",
                store_ahead_s=[round((store_ms - own_ms) / 1000, 1) for store_ms in stores_ms],
                postgres_ahead_s=round((ledger_ms - own_ms) / 1000, 1),
            )
            return 0
        campaigns = [
            c for c in await self._ledger.campaigns.all() if c.state is not State.draft and c.width is not None
        ]
        return sum([await drop_old_marks(self._store, self._ledger, campaign, min(clocks)) for campaign in campaigns])
