"""Finds a store that was brought back from an older copy: it knows fewer likes than the ledger, and takes more."""

from __future__ import annotations

import asyncio

from redis.exceptions import RedisError

from dianzan import logs
from dianzan.campaign import State
from dianzan.errors import StoreError
from dianzan.ledger import AWAY, Ledger, StoredCampaign
from dianzan.vote_store import Soundness, VoteStore

_log = logs.get(__name__)

AUDIT_EVERY_S = 60.0


class StoreAudit:
    """Takes the gate from an open shard that counts fewer likes than the ledger, and closes those closed before.

    The store counts a like before the ledger has it, so a shard that is behind has lost marks too, and would count
    their likes again. Without its gate it refuses until `dianzan restore`. A store or Postgres that is down only puts
    the audit off.
    """

    def __init__(self, store: VoteStore, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    async def run(self) -> None:
        """Look at the start and every minute, for ever."""
        while True:
            try:
                await self.run_once()
            except (*AWAY, RedisError, StoreError) as error:
                _log.warning("the audit of the store is put off", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(AUDIT_EVERY_S)

    async def run_once(self) -> None:
        """Look at every shard of every campaign once."""
        for campaign in await self._ledger.campaigns():
            if campaign.state is not State.draft:
                await self._look(campaign)

    async def _look(self, campaign: StoredCampaign) -> None:
        # The ledger first: what it gains after this the store has counted already.
        ledger = {} if campaign.state.is_over else await self._ledger.shard_counts(campaign.number)
        for shard in range(campaign.rules.shards):
            found = await self._store.check_shard(
                campaign.id, shard, ledger.get(shard, {}), is_over=campaign.state.is_over
            )
            if found is not Soundness.sound:
                _log.error(
                    "the store is an older copy; likes are refused until dianzan restore",
                    campaign=campaign.id,
                    shard=shard,
                    found=found.value,
                )
