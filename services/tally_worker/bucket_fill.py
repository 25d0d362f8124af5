"""Samples how full the buckets of the current window are, so that a wrong `expected_voters` is seen in time."""

from __future__ import annotations

import asyncio
import random

from redis.exceptions import RedisError

from dianzan.domain.campaign import Rules, State
from dianzan.domain.windows import now_ms
from dianzan.ledger.ledger import AWAY, Ledger
from dianzan.process import logs, metrics
from dianzan.store.vote_store import VoteStore

_log = logs.get(__name__)

SAMPLE_EVERY_S = 15.0
BUCKETS_SAMPLED = 16  # voters spread evenly over buckets, so the fullest of 16 is near the fullest of all


class BucketGauge:
    """Sets `dianzan_bucket_fill` to the fullest of a few random buckets of each published campaign.

    A store or Postgres that is down only puts the next sample off.
    """

    def __init__(self, store: VoteStore, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    async def run(self) -> None:
        """Sample every 15 seconds for ever."""
        while True:
            try:
                await self.run_once()
            except (*AWAY, RedisError) as error:
                _log.warning("the bucket sample is put off", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def run_once(self) -> None:
        """Sample every published campaign once."""
        for campaign in await self._ledger.campaigns():
            if campaign.state is State.published:
                metrics.BUCKET_FILL.labels(campaign.id).set(await self._fullest(campaign.rules))

    async def _fullest(self, rules: Rules) -> int:
        places = sample(rules)
        return max(await self._store.bucket_fills(rules.id, rules.window_at(now_ms()).day, places))


def sample(rules: Rules) -> list[tuple[int, int]]:
    """Random (shard, bucket) places, all of them where the campaign has no more than BUCKETS_SAMPLED."""
    count = rules.shards * rules.buckets
    chosen = random.sample(range(count), min(count, BUCKETS_SAMPLED))
    return [divmod(place, rules.buckets) for place in chosen]
