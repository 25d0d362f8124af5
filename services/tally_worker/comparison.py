"""Compares the store with the ledger, shard by shard, and rebuilds shards that have lost likes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from redis.exceptions import RedisError

from dianzan.domain.campaign import State
from dianzan.domain.errors import CampaignError, StoreError
from dianzan.ledger.ledger import AWAY, REFUSED, Ledger, StoredCampaign
from dianzan.life.restore import Restorer
from dianzan.process import logs, metrics
from dianzan.store.vote_store import VoteStore
from tally_worker.flush import Consumer, find_nodes

_log = logs.get(__name__)

RECONCILE_EVERY_S = 60.0
SETTLE_S = 2.0  # after a disturbance; a failover has then named its primary, or this look is put off
DRAIN_S_MAX = 30.0


class Reconciler:
    """Looks every minute, at the start, and soon after the store or Postgres was away.

    A shard behind the ledger has lost marks too (its store was brought back from an older copy) and would count their
    likes again: its gate is taken, and whichever worker comes first rebuilds it from the ledger. A shard ahead shows
    that the ledger has lost rows (Postgres was brought back): what the store has kept of them is put back. For the rest
    nothing is changed, since the store is then the only witness; an operator decides (`dianzan restore
    --accept-ledger`). A shard that had no gate before is left to `dianzan restore`. What is closed in the ledger and
    open in the store is closed again. A store or Postgres that is down only puts the look off, until they answer.
    """

    def __init__(self, store: VoteStore, ledger: Ledger, consumer: Consumer, restorer: Restorer) -> None:
        self._store, self._ledger, self._consumer, self._restorer = store, ledger, consumer, restorer

    async def run(self, disturbed: asyncio.Event) -> None:
        """Look for ever."""
        while True:
            try:
                await self.run_once()
            except (*AWAY, RedisError, StoreError) as error:
                _log.warning("the comparison is put off", reason=f"{type(error).__name__}: {error}")
                disturbed.set()  # else it would wait a minute, though the flush has long found the store again
                await find_nodes(self._store)  # no flush asks a store whose campaigns are all sealed
            try:
                async with asyncio.timeout(RECONCILE_EVERY_S):
                    await disturbed.wait()
                await asyncio.sleep(SETTLE_S)
                disturbed.clear()
            except TimeoutError:
                continue

    async def run_once(self) -> None:
        """Look at every shard of every campaign once."""
        for campaign in await self._ledger.campaigns():
            if campaign.state.is_over:
                await self._close_again(campaign)
            if campaign.state in (State.published, State.closed):
                try:
                    await self._look(campaign)
                except REFUSED as error:  # as in the flush: its likes wait, and hold back no other campaign
                    _log.error("a campaign is not compared", campaign=campaign.id, reason=str(error))
        metrics.RECONCILED_TIMESTAMP.set_to_current_time()

    async def _close_again(self, campaign: StoredCampaign) -> None:
        opened = await self._store.gates_open(campaign.id, campaign.rules.shards)
        if opened:
            _log.error("the store is an older copy; a campaign that is over is closed again", campaign=campaign.id)
            await self._store.close_gates(campaign.id, campaign.rules.shards)

    async def _look(self, campaign: StoredCampaign) -> None:
        drifts: dict[int, dict[int, int]] = {}
        missing = await self._store.gates_missing(campaign.id, campaign.rules.shards)
        for shard in [shard for shard in range(campaign.rules.shards) if shard not in missing]:
            drift = await self._consumer.reconcile(campaign, shard)
            if drift:
                drifts[shard] = drift
        metrics.DRIFT.labels(campaign.id, "behind").set(-_sum(drifts, -1))
        metrics.DRIFT.labels(campaign.id, "ahead").set(_sum(drifts, 1))
        if drifts:
            _log.error("store and ledger differ", campaign=campaign.id, ahead_by_shard=drifts)
        behind = await self._store.gates_behind(campaign.id, campaign.rules.shards)
        for shard in behind:
            await self._consumer.put_back(campaign, shard)  # a rebuild clears what is kept
        if behind:
            await self._repair(campaign.id, behind)

    async def _repair(self, campaign: str, shards: Collection[int]) -> None:
        try:
            restored = await self._restorer.restore(campaign, drain_s_max=DRAIN_S_MAX, only=shards)
        except CampaignError as error:
            _log.error("shards stay closed until dianzan restore", campaign=campaign, shards=shards, reason=str(error))
            return
        metrics.REPAIRED.labels(campaign).inc(len(restored.shards))
        _log.error("shards that had lost likes are rebuilt", campaign=campaign, shards=restored.shards)


def _sum(drifts: Mapping[int, Mapping[int, int]], sign: int) -> int:
    return sum(ahead for drift in drifts.values() for ahead in drift.values() if ahead * sign > 0)
