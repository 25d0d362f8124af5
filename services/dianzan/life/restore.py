"""Rebuilds the store's view of a campaign from the ledger after the store, or a part of it, was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from dianzan.domain import wire
from dianzan.domain.campaign import Document, State
from dianzan.domain.errors import CampaignError
from dianzan.domain.limits import VOTERS_PER_RESTORE_STEP
from dianzan.domain.shard import Shard
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.life.drain import drain
from dianzan.life.evidence import beyond, both_ways_out, foreign_likes
from dianzan.life.lifecycle import require
from dianzan.life.older_copy import past_older_copy
from dianzan.process import faults
from dianzan.store.store import Store

Voters = dict[bytes, list[int]]  # voter -> candidates liked in one window, in order


@dataclass(frozen=True, slots=True)
class Restored:
    """What was rebuilt: the shards that were lost, and the likes of theirs that the ledger holds."""

    shards: list[Shard]
    likes: int


class Restorer:
    """Rebuilds shards that have lost their gate, and closed ones that count fewer likes than the ledger; no others.

    Such a shard takes no likes, so nothing moves while it is rebuilt, and the campaign's lock is held to the end. All
    is cleared first and written from the ledger alone, the gate last: interrupted at any point it is run again, and
    gives the same result. Likes that only the lost store held are not in the ledger and cannot come back; one node's
    promise is a store that keeps its disk.
    """

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    async def restore(
        self,
        campaign_id: str,
        *,
        drain_s_max: float,
        only: Collection[Shard] | None = None,
        accept_ledger: bool = False,
    ) -> Restored:
        """Rebuild, compare, open again.

        Raises CampaignError if the rebuilt shards do not equal the ledger, and if that is an older copy which lacks
        candidates or publishers that likes name.

        `only`: of those without a gate these alone. `accept_ledger`: the ledger's rows are right as they stand. They
        are counted again, and shards that count otherwise are rebuilt too: those that count more, whose surplus the
        ledger has lost and will never hold, and those that count less, though they have lost nothing.
        """
        await self._store.load_library()
        if accept_ledger:
            await self._recount(campaign_id)  # which refuses what the step below does, before it writes
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = await past_older_copy(self._store.documents, step, require(step, campaign_id))
            self._require_restorable(campaign)
            if not accept_ledger:
                _refuse_known_foreign(campaign)
            if accept_ledger and not campaign.state.is_over:
                await self._take_differing(campaign, drain_s_max)
            lost = await self._lost(campaign, drain_s_max, only, accept_ledger=accept_ledger)
            if not lost and only is None:
                await self._refuse_foreign(campaign)
            # A flush that was reading when the store was lost may commit yet: what it commits must be rebuilt too.
            await step.lock_shards(lost)
            document = await self._ledger.campaigns.document(campaign)
            for shard in lost:
                await self._store.clear(shard)
            faults.hit("restore.cleared")
            rows = await self._write_voters(campaign, document, lost)
            likes = await self._write_counts(campaign, lost)
            faults.hit("restore.written")
            await self._compare(campaign, document, lost, rows)
            await self._reopen(document, lost)
            # What was found whole may have been so only on a primary that is cut off, and whose replica is promoted.
            await self._store.gates.confirm(campaign.shards if only is None else lost)
        if accept_ledger:
            await self._ledger.campaigns.set_foreign(campaign, found=False)
        return Restored(lost, likes)

    async def differences(self, campaign_id: str) -> tuple[int, int]:
        """Likes that the store alone counts, and those that only the ledger does, as they are now."""
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = require(step, campaign_id)
        self._require_restorable(campaign)
        ledger, store = await self._both_counts(campaign)
        return (
            sum(beyond(store[shard], ledger[shard]) for shard in campaign.shards),
            sum(beyond(ledger[shard], store[shard]) for shard in campaign.shards),
        )

    async def _recount(self, campaign_id: str) -> None:
        """Count the ledger's rows into its counts; no flush commits meanwhile."""
        async with self._ledger.campaigns.step(campaign_id) as step:
            campaign = await past_older_copy(self._store.documents, step, require(step, campaign_id))
            self._require_restorable(campaign)
            await step.lock_shards(campaign.shards)
            await step.recount(len(campaign.shards))

    @staticmethod
    def _require_restorable(campaign: StoredCampaign) -> None:
        if campaign.state is State.draft:
            raise CampaignError(f"Campaign {campaign.id} was never published: there is nothing to restore.")

    async def _refuse_foreign(self, campaign: StoredCampaign) -> None:
        if likes := await foreign_likes(self._store, self._ledger, campaign):
            raise CampaignError(
                f"The store has lost nothing of {campaign.id}, and the ledger holds {likes} likes that it never took. "
                f"{both_ways_out(campaign.id)}"
            )

    async def _take_differing(self, campaign: StoredCampaign, drain_s_max: float) -> None:
        """Take the gate from open shards that count otherwise than the ledger once their streams are empty."""
        ledger, store = await self._both_counts(campaign)
        suspects = [shard for shard in campaign.shards if ledger[shard] != store[shard]]
        for shard in suspects:
            await self._store.gates.take(shard)  # or its stream may never be empty
        await drain(self._store.streams, suspects, drain_s_max)

    async def _lost(
        self, campaign: StoredCampaign, drain_s_max: float, only: Collection[Shard] | None, *, accept_ledger: bool
    ) -> list[Shard]:
        """Shards without a gate, and closed ones that are behind the ledger (or ahead), their streams emptied."""
        missing = await self._store.gates.missing(campaign.shards)
        if only is not None:
            missing = [shard for shard in missing if shard in only]
            await drain(self._store.streams, missing, drain_s_max)
            return missing
        closed = await self._store.gates.closed(campaign.shards)
        await drain(self._store.streams, [*missing, *closed], drain_s_max)
        ledger, store = await self._both_counts(campaign)
        if accept_ledger:
            wrong = [shard for shard in closed if store[shard] != ledger[shard]]
        else:
            behind = [shard for shard in closed if beyond(ledger[shard], store[shard])]
            unbroken = self._store.agreements.unbroken
            wrong = [] if campaign.foreign_since else [shard for shard in behind if not await unbroken(shard)]
        return sorted([*missing, *wrong])

    async def _both_counts(
        self, campaign: StoredCampaign
    ) -> tuple[dict[Shard, dict[int, int]], dict[Shard, dict[int, int]]]:
        """Likes by shard and candidate, by the ledger and by the store."""
        ledger = await self._ledger.likes.shard_counts(campaign)
        return ledger, await self._store.tallies.by_shard(campaign.shards)

    async def _write_voters(
        self, campaign: StoredCampaign, document: Document, lost: Collection[Shard]
    ) -> dict[Shard, Counter[int]]:
        """Write marks and people; returns the likes per shard and candidate that these rows of the ledger are."""
        rows: dict[Shard, Counter[int]] = {shard: Counter() for shard in lost}
        for day in campaign.rules.window_dates() if lost else []:
            window = campaign.rules.window_on(day)
            marked = campaign.swept_through is None or day > campaign.swept_through
            async for shard, voters in self._voters_of(campaign, day, lost):
                if marked:
                    await self._store.marks.write(document, shard, window.day, voters)
                await self._store.tallies.people(shard, _by_candidate(voters))
                rows[shard].update(candidate for liked in voters.values() for candidate in liked)
        return rows

    async def _write_counts(self, campaign: StoredCampaign, lost: Collection[Shard]) -> int:
        counts = await self._ledger.likes.shard_counts(campaign)
        for shard in lost:
            await self._store.tallies.write(shard, counts[shard])
        return sum(sum(counts[shard].values()) for shard in lost)

    async def _compare(
        self,
        campaign: StoredCampaign,
        document: Document,
        lost: Sequence[Shard],
        rows: Mapping[Shard, Mapping[int, int]],
    ) -> None:
        """The counters against the rows of the ledger, and the marks of the window that runs now against its voters."""
        store = await self._store.tallies.by_shard(lost)
        for shard in lost:
            if store[shard] != rows[shard]:
                raise CampaignError(
                    f"Not opened: shard {shard.number} counts {store[shard]}, the ledger's are {dict(rows[shard])}."
                )
        if not lost:
            return
        day = campaign.rules.window_at(min(await self._store.clocks_ms())).date
        window = campaign.rules.window_on(day)
        async for shard, voters in self._voters_of(campaign, day, lost):
            marked = await self._store.marks.read(document, shard, window.day, voters)
            for voter, candidates in voters.items():
                if set(marked[voter]) != set(candidates):
                    raise CampaignError(
                        f"Not opened: a voter's marks are {marked[voter]}, the ledger has {candidates}."
                    )

    async def _reopen(self, document: Document, restored: Collection[Shard]) -> None:
        """Give every shard its gate: open while the campaign is published, except those a close has reached.

        A shard that has lost its gate and was not restored stays without.
        """
        gates, shards = self._store.gates, document.rules.every_shard
        if document.state is State.published:
            await gates.open(document, await gates.taking_likes(shards), first=False)
            missing = await gates.missing(shards)
            await gates.open(document, [shard for shard in missing if shard in restored], first=True)
        else:
            await gates.close(shards)
        await self._store.documents.publish(document)

    async def _voters_of(
        self, campaign: StoredCampaign, day: date, lost: Collection[Shard]
    ) -> AsyncIterator[tuple[Shard, Voters]]:
        """The voters of lost shards in one window, a shard at a time; VOTERS_PER_RESTORE_STEP in memory at most."""
        gathered: dict[Shard, Voters] = {}
        held = 0
        async for voter, candidates in self._ledger.likes.voters_of(campaign, day):
            shard = campaign.shards[wire.shard_of(voter, len(campaign.shards))]
            if shard in lost:
                gathered.setdefault(shard, {})[voter] = candidates
                held += 1
            if held == VOTERS_PER_RESTORE_STEP:
                for of_shard in gathered.items():
                    yield of_shard
                gathered, held = {}, 0
        for of_shard in gathered.items():
            yield of_shard


def _by_candidate(voters: Voters) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {0: list(voters)}
    for voter, candidates in voters.items():
        for candidate in candidates:
            found.setdefault(candidate, []).append(voter)
    return found


def _refuse_known_foreign(campaign: StoredCampaign) -> None:
    """A store that is rebuilt would take over what it never took."""
    if campaign.foreign_since:
        raise CampaignError(
            f"The ledger holds likes of {campaign.id} that the store never took (found "
            f"{campaign.foreign_since:%Y-%m-%d %H:%M} UTC), and a store that is rebuilt would take them over. "
            f"{both_ways_out(campaign.id)}"
        )
