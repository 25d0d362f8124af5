"""The seal: the campaign's last step, from closed to a final tally that four counts agree on."""

from __future__ import annotations

from dianzan.domain.campaign import State
from dianzan.domain.errors import CampaignError
from dianzan.domain.ranking import ranked
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import Seal, StoredCampaign, Tally
from dianzan.life.drain import drain
from dianzan.life.lifecycle import Lifecycle
from dianzan.life.recount import Recount, recount
from dianzan.process import faults
from dianzan.store.store import Store


class Sealer:
    """Raises CampaignError with what to do if a campaign cannot be sealed."""

    def __init__(self, store: Store, ledger: Ledger, lifecycle: Lifecycle) -> None:
        self._store, self._ledger, self._lifecycle = store, ledger, lifecycle

    async def seal(self, campaign_id: str, *, drain_s_max: float) -> tuple[Recount, Seal]:
        """Close, drain the streams, compare four ways, publish the final tally. Run again it gives the same result.

        Raises CampaignError if the streams do not empty in `drain_s_max` seconds or the four counts differ; then the
        campaign stays closed and unsealed.
        """
        await self._lifecycle.close(campaign_id)
        campaign = await self._lifecycle.stored(campaign_id)
        if campaign.state is not State.sealed:  # nobody flushes what is sealed
            try:
                await drain(self._store.streams, campaign.shards, drain_s_max)
            except CampaignError as error:
                raise CampaignError(f"Not sealed: {error}") from error
        faults.hit("seal.drained")
        async with self._ledger.campaigns.step(campaign_id) as step:
            if step.campaign is None or step.campaign.state is not State.sealed:
                await step.lock_shards(campaign.shards)  # a flush may be in the middle
                counted = await recount(self._store, self._ledger, campaign)
                if not counted.equal:
                    raise CampaignError(_not_sealed(campaign_id, counted))
                tallies = await self._final(campaign, counted)
                await step.seal(sum(counted.ledger.values()), counted.people.get(0, 0), tallies)
                faults.hit("seal.before_commit")
        faults.hit("seal.after_commit")
        await self._lifecycle.publish_document(campaign_id)
        seal = await self._ledger.campaigns.seal(campaign)
        if seal is None:
            raise CampaignError(f"Campaign {campaign_id} is not sealed: run dianzan seal again.")
        return await recount(self._store, self._ledger, campaign), seal

    async def _final(self, campaign: StoredCampaign, counted: Recount) -> dict[int, tuple[int, Tally]]:
        likes = {index: counted.ledger.get(index, 0) for index in await self._ledger.campaigns.candidates(campaign)}
        ranks = ranked(likes)
        return {index: (ranks[index], Tally(n, counted.people.get(index, 0))) for index, n in likes.items()}


def _not_sealed(campaign_id: str, counted: Recount) -> str:
    said = f"Not sealed: the four counts of {campaign_id} differ.\n{counted.differences()}"
    if not counted.store_is_behind:
        return said
    return f"{said}\nThe store holds fewer likes than the ledger: run dianzan restore {campaign_id}, then this again."
