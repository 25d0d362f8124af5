"""The seal: the campaign's last step, from closed to a final tally that four counts agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dianzan.domain.campaign import State
from dianzan.domain.errors import CampaignError
from dianzan.domain.ranking import ranked
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import Seal, StoredCampaign, Tally
from dianzan.ledger.step import CampaignStep
from dianzan.ledger.tallies import TIMELINE
from dianzan.life.drain import drain
from dianzan.life.evidence import both_ways_out, foreign_likes
from dianzan.life.lifecycle import Lifecycle
from dianzan.life.recount import Recount, broken_rules, recount
from dianzan.life.sealed import against_seal, digests
from dianzan.process import faults
from dianzan.store.store import Store


class Sealer:
    """Raises CampaignError with what to do if a campaign cannot be sealed."""

    def __init__(self, store: Store, ledger: Ledger, lifecycle: Lifecycle) -> None:
        self._store, self._ledger, self._lifecycle = store, ledger, lifecycle

    async def seal(self, campaign_id: str, *, drain_s_max: float, early: str = "") -> tuple[Recount, Seal]:
        """Close, drain the streams, compare four ways, publish the final tally. Run again it gives the same result.

        Raises CampaignError if the streams do not empty in `drain_s_max` seconds or the four counts differ; then the
        campaign stays unsealed. What can be known while likes are taken is looked at before it is closed. Of a
        campaign that is sealed everything is compared again, and CampaignError says what differs.
        """
        await self._refuse_before_closing(await self._lifecycle.stored(campaign_id))
        await self._lifecycle.close(campaign_id, early=early)
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
                    raise CampaignError(await self._not_sealed(campaign, counted))
                await step.seal(await self._final(step, campaign, counted))
                faults.hit("seal.before_commit")
        faults.hit("seal.after_commit")
        await self._lifecycle.publish_document(campaign_id)
        return await self._compared(campaign)

    async def _refuse_before_closing(self, campaign: StoredCampaign) -> None:
        """Raise CampaignError for what no draining mends: a campaign that is closed for it would be over unsealed."""
        if campaign.state is not State.published:
            return
        counts, rows = await self._ledger.recounts.counts_and_rows(campaign)
        broken = broken_rules(await self._ledger.recounts.strays(campaign))
        counted = Recount({}, counts, rows, rows, {}, 0, broken, ledger_only=True)
        if not counted.equal:
            raise CampaignError(await self._not_sealed(campaign, counted))
        if likes := await foreign_likes(self._store, self._ledger, campaign):
            raise CampaignError(_foreign(campaign.id, likes))

    async def _compared(self, campaign: StoredCampaign) -> tuple[Recount, Seal]:
        counted = await recount(self._store, self._ledger, campaign)
        seal, differences = await against_seal(self._ledger, campaign, counted)
        if seal is None:
            raise CampaignError(f"Campaign {campaign.id} is not sealed: run dianzan seal again.")
        differences = [*counted.differences().splitlines(), *differences]
        if differences:
            raise CampaignError("\n".join([f"Sealed {campaign.id}, and now DIFFERENT from that:", *differences]))
        return counted, seal

    async def _final(self, step: CampaignStep, campaign: StoredCampaign, counted: Recount) -> Seal:
        contents = await self._ledger.campaigns.contents(campaign)
        indexes = [candidate["candidate"] for candidate in contents.candidates]
        likes = {index: counted.ledger.get(index, 0) for index in indexes}
        ranks = ranked(likes)
        tallies = {index: (ranks[index], Tally(n, counted.people.get(index, 0))) for index, n in likes.items()}
        seal = Seal(await step.now(), sum(likes.values()), counted.people.get(0, 0), tallies)
        digest, parts = digests(campaign.id, contents, seal)
        return replace(seal, digest=digest, parts=parts)

    async def _not_sealed(self, campaign: StoredCampaign, counted: Recount) -> str:
        """What differs, and the way out of just that."""
        said = f"Not sealed: the counts of {campaign.id} differ.\n{counted.differences()}"
        if not counted.rows_are_counted:
            return (
                f"{said}\nThe ledger's rows are not those that were counted: somebody has changed them by hand. Bring "
                f"back what was there, or run dianzan restore {campaign.id} --accept-ledger to count the rows as they "
                "are; then run this again."
            )
        if counted.counts_agree:
            return f"{said}\n{_way_out_of_broken_rules(campaign.id, counted.broken)}"
        if likes := await foreign_likes(self._store, self._ledger, campaign):
            return f"{said}\n{_foreign(campaign.id, likes)}"
        if counted.store_is_behind:
            return f"{said}\nThe store has lost likes: run dianzan restore {campaign.id}, then this again."
        return (
            f"{said}\nThe ledger has lost likes: bring back a newer copy, or give them up with dianzan restore "
            f"{campaign.id} --accept-ledger; then run this again."
        )


def _foreign(campaign_id: str, likes: int) -> str:
    return f"Not sealed: the ledger holds {likes} likes that the store never took. {both_ways_out(campaign_id)}"


def _way_out_of_broken_rules(campaign_id: str, broken: Sequence[str]) -> str:
    if all(TIMELINE in line for line in broken):
        return (
            "Only the likes by the hour were changed: run dianzan restore "
            f"{campaign_id} --accept-ledger to count them again; then run this again."
        )
    return (
        "Either such likes were never taken by a vote API, or the rules, classes or publishers in the database are not "
        "those that they were taken by: look at both before anything else."
    )
