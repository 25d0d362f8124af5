"""Samples how full the buckets of the current window are, so that a wrong `expected_voters` is seen in time."""

from __future__ import annotations

import asyncio
import random

from dianzan.domain.campaign import Rules, State
from dianzan.domain.errors import LedgerAway, StoreError
from dianzan.domain.shard import Shard
from dianzan.domain.windows import now_ms
from dianzan.ledger.ledger import Ledger
from dianzan.process import logs, metrics
from dianzan.store.store import Store

_log = logs.get(__name__)

SAMPLE_EVERY_S = 15.0
BUCKETS_SAMPLED = 16  # voters spread evenly over buckets, so the fullest of 16 is near the fullest of all


class BucketSampler:
    """Sets `dianzan_bucket_fill` to the fullest of a few random buckets of each published campaign.

    A store or Postgres that is down only puts the next sample off.
    """

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    async def run(self) -> None:
        """Sample every 15 seconds for ever."""
        while True:
            try:
                await self.run_once()
            except (LedgerAway, StoreError) as error:
                _log.info("the bucket sample is put off", reason=str(error))
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def run_once(self) -> None:
        """Sample every published campaign once."""
        for campaign in await self._ledger.campaigns.all():
            if campaign.state is State.published:
                metrics.BUCKET_FILL.labels(campaign.id).set(await self._fullest(campaign.rules))

    async def _fullest(self, rules: Rules) -> int:
        places = sample(rules)
        return max(await self._store.marks.bucket_fills(rules.window_at(now_ms()).day, places))


def sample(rules: Rules) -> list[tuple[Shard, int]]:
    """Random (shard, bucket) places, all of them where the campaign has no more than BUCKETS_SAMPLED."""
    count = rules.shards * rules.buckets
    chosen = random.sample(range(count), min(count, BUCKETS_SAMPLED))
    places = (divmod(place, rules.buckets) for place in chosen)
    return [(rules.every_shard[number], bucket) for number, bucket in places]
