"""Compares each sealed campaign with its seal once a day: after the seal nothing of it may change."""

from __future__ import annotations

import asyncio

from dianzan.domain.campaign import State
from dianzan.domain.errors import LedgerError
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.life.recount import recount
from dianzan.life.sealed import against_seal
from dianzan.process import logs, metrics

_log = logs.get(__name__)

COMPARE_EVERY_S = 86_400.0
TRY_AGAIN_S = 60.0
_LINES_LOGGED_MAX = 10


class SealedCampaigns:
    """Sets `dianzan_seal_differences`; the store is not asked, since it may be gone.

    A Postgres that is down, or that refuses, only puts the comparison off.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self) -> None:
        """Compare at the start and every day for ever."""
        while True:
            try:
                await self.run_once()
            except LedgerError as error:
                _log.warning("the comparison with the seals is put off", reason=str(error))
                await asyncio.sleep(TRY_AGAIN_S)
            else:
                await asyncio.sleep(COMPARE_EVERY_S)

    async def run_once(self) -> None:
        """Compare every sealed campaign once, one after another: each reads all of its likes."""
        for campaign in await self._ledger.campaigns.all():
            if campaign.state is State.sealed:
                await self._compare(campaign)

    async def _compare(self, campaign: StoredCampaign) -> None:
        counted = await recount(None, self._ledger, campaign)
        _seal, differences = await against_seal(self._ledger, campaign, counted)
        differences = [*counted.differences().splitlines(), *differences]
        metrics.SEAL_DIFFERENCES.labels(campaign.id).set(len(differences))
        if differences:
            _log.error(
                "a sealed campaign is not what was sealed: do what alerts.yml says at SealBroken",
                campaign=campaign.id,
                differences=len(differences),
                lines=differences[:_LINES_LOGGED_MAX],
            )
