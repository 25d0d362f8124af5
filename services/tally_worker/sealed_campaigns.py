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

LOOK_EVERY_S = 60.0
_LINES_LOGGED_MAX = 10


class SealedCampaigns:
    """Sets `dianzan_seal_differences`; the store is not asked, since it may be gone.

    Of several workers one compares. A Postgres that is down, or that refuses, puts the comparison off by an hour.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self) -> None:
        """Look each minute for ever whether one is due: a day after the last time, ten minutes after a difference."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.run_once()
            except LedgerError as error:
                _log.warning("the comparison with the seals is put off", reason=str(error))

    async def run_once(self) -> None:
        """Compare what is due, one after another, since each reads all of its likes; of the rest tell what is known."""
        for campaign in await self._ledger.campaigns.all():
            if campaign.state is State.sealed:
                if await self._ledger.campaigns.claim_comparison(campaign):
                    await self._ledger.campaigns.set_differences(campaign, await self._compare(campaign))
                differences = await self._ledger.campaigns.differences(campaign)
                metrics.SEAL_DIFFERENCES.labels(campaign.id).set(differences)

    async def _compare(self, campaign: StoredCampaign) -> int:
        counted = await recount(None, self._ledger, campaign)
        _seal, differences = await against_seal(self._ledger, campaign, counted)
        differences = [*counted.differences().splitlines(), *differences]
        if differences:
            _log.error(
                "a sealed campaign is not what was sealed: do what alerts.yml says at SealBroken",
                campaign=campaign.id,
                differences=len(differences),
                lines=differences[:_LINES_LOGGED_MAX],
            )
        return len(differences)
