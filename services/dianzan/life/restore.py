"""Rebuilds the store's view of a campaign from the ledger after the store, or a part of it, was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import date

from dianzan.domain import wire
from dianzan.domain.campaign import Document, State
from dianzan.domain.errors import CampaignError
from dianzan.domain.limits import VOTERS_PER_RESTORE_STEP
from dianzan.ledger.ledger import Ledger, StoredCampaign
from dianzan.life.lifecycle import Lifecycle
from dianzan.process import faults
from dianzan.store.vote_store import VoteStore

Voters = dict[bytes, list[int]]  # voter -> candidates liked in one window, in order


@dataclass(frozen=True, slots=True)
class Restored:
    """What was rebuilt: the shards that were lost, and the likes of theirs that the ledger holds."""

    shards: list[int]
    likes: int


class Restorer:
    """Rebuilds shards that have lost their gate, and closed ones that count fewer likes than the ledger; no others.

    Such a shard takes no likes, so nothing moves while it is rebuilt, and the campaign's lock is held to the end. All
    is cleared first and written from the ledger alone, the gate last: interrupted at any point it is run again, and
    gives the same result. Likes that only the lost store held are not in the ledger and cannot come back; one node's
    promise is a store that keeps its disk.
    """

    def __init__(self, store: VoteStore, ledger: Ledger, lifecycle: Lifecycle) -> None:
        self._store, self._ledger, self._lifecycle = store, ledger, lifecycle

    async def restore(
        self, campaign: str, *, drain_s_max: float, only: Collection[int] | None = None, accept_ledger: bool = False
    ) -> Restored:
        """Rebuild, compare, open again.

        Raises CampaignError where the rebuilt shards do not equal the ledger, and where that is an older copy which
        lacks candidates or publishers that likes name.

        `only`: of those without a gate these alone. `accept_ledger`: open shards that count more likes than the ledger
        too, whose surplus the ledger has lost and will never hold.
        """
        await self._store.load_library()
        async with self._ledger.step(campaign) as step:
            stored = await self._lifecycle.met_store(step, campaign)
            if stored.state is State.draft:
                raise CampaignError(f"Campaign {campaign} was never published: there is nothing to restore.")
            if accept_ledger and not stored.state.is_over:
                await self._give_up_surplus(stored, drain_s_max)
            lost = await self._lost(stored, drain_s_max, only, accept_ledger=accept_ledger)
            # A flush that was reading when the store was lost may commit yet: what it commits must be rebuilt too.
            await step.lock_shards(stored.number, lost)
            document = await self._ledger.document(stored)
            for shard in lost:
                await self._store.clear_shard(stored.rules, shard)
            faults.hit("restore.cleared")
            rows = await self._write_voters(stored, document, lost)
            likes = await self._write_counts(stored, lost)
            faults.hit("restore.written")
            await self._compare(stored, document, lost, rows)
            await self._reopen(document, lost)
            # What was found whole may have been so only on a primary that is cut off, and whose replica is promoted.
            await self._store.confirm_gates(stored.id, range(stored.rules.shards) if only is None else lost)
        return Restored(lost, likes)

    async def _give_up_surplus(self, stored: StoredCampaign, drain_s_max: float) -> None:
        """Take the gate from open shards that count more than the ledger once their streams are empty."""
        shards = stored.rules.shards
        ledger, store = (
            await self._ledger.shard_counts(stored.number),
            await self._store.shard_counts(stored.id, shards),
        )
        suspects = [shard for shard in range(shards) if _behind(ledger.get(shard, {}), store[shard])]
        for shard in suspects:
            await self._store.take_gate(stored.id, shard)  # else its stream may never be empty
        await self._lifecycle.drain(stored, suspects, drain_s_max)

    async def _lost(
        self, stored: StoredCampaign, drain_s_max: float, only: Collection[int] | None, *, accept_ledger: bool
    ) -> list[int]:
        """Shards without a gate, and closed ones that are behind the ledger (or ahead), their streams emptied."""
        shards = stored.rules.shards
        missing = await self._store.gates_missing(stored.id, shards)
        if only is not None:
            missing = [shard for shard in missing if shard in only]
            await self._lifecycle.drain(stored, missing, drain_s_max)
            return missing
        closed = await self._store.gates_closed(stored.id, shards)
        await self._lifecycle.drain(stored, [*missing, *closed], drain_s_max)
        ledger, store = (
            await self._ledger.shard_counts(stored.number),
            await self._store.shard_counts(stored.id, shards),
        )
        wrong = [
            shard
            for shard in closed
            if _behind(store[shard], ledger.get(shard, {}))
            or (accept_ledger and _behind(ledger.get(shard, {}), store[shard]))
        ]
        return sorted([*missing, *wrong])

    async def _write_voters(
        self, stored: StoredCampaign, document: Document, lost: Collection[int]
    ) -> dict[int, Counter[int]]:
        """Write marks and people; returns the likes per shard and candidate that these rows of the ledger are."""
        rows: dict[int, Counter[int]] = {shard: Counter() for shard in lost}
        for day in stored.rules.window_dates() if lost else []:
            window = stored.rules.window_on(day)
            marked = stored.swept_through is None or day > stored.swept_through
            async for shard, voters in self._voters_of(stored, day, lost):
                if marked:
                    await self._store.write_marks(document, shard, window.day, voters)
                await self._store.people(stored.id, shard, _by_candidate(voters))
                rows[shard].update(candidate for liked in voters.values() for candidate in liked)
        return rows

    async def _write_counts(self, stored: StoredCampaign, lost: Collection[int]) -> int:
        counts = await self._ledger.shard_counts(stored.number)
        for shard in lost:
            await self._store.write_counts(stored.id, shard, counts.get(shard, {}))
        return sum(sum(counts.get(shard, {}).values()) for shard in lost)

    async def _compare(
        self, stored: StoredCampaign, document: Document, lost: Collection[int], rows: Mapping[int, Mapping[int, int]]
    ) -> None:
        """The counters against the rows of the ledger, and the marks of the window that runs now against its voters."""
        store = await self._store.shard_counts(stored.id, stored.rules.shards)
        for shard in lost:
            if store[shard] != rows[shard]:
                raise CampaignError(
                    f"Not opened: shard {shard} counts {store[shard]}, the ledger's rows are {dict(rows[shard])}."
                )
        if not lost:
            return
        day = stored.rules.window_at(min(await self._store.clocks_ms())).date
        window = stored.rules.window_on(day)
        async for shard, voters in self._voters_of(stored, day, lost):
            marked = await self._store.read_marks(document, shard, window.day, voters)
            for voter, candidates in voters.items():
                if set(marked[voter]) != set(candidates):
                    raise CampaignError(
                        f"Not opened: a voter's marks are {marked[voter]}, the ledger has {candidates}."
                    )

    async def _reopen(self, document: Document, restored: Collection[int]) -> None:
        """Give every shard its gate: open while the campaign is published, but for those a close has reached.

        A shard that has lost its gate and was not restored stays without.
        """
        campaign, shards = document.rules.id, document.rules.shards
        if document.state is State.published:
            await self._store.open_gates(document, first=False, shards=await self._store.gates_open(campaign, shards))
            missing = await self._store.gates_missing(campaign, shards)
            await self._store.open_gates(document, first=True, shards=[s for s in missing if s in restored])
        else:
            await self._store.close_gates(campaign, shards)
        await self._store.publish_document(document)

    async def _voters_of(
        self, stored: StoredCampaign, day: date, lost: Collection[int]
    ) -> AsyncIterator[tuple[int, Voters]]:
        """The voters of lost shards in one window, a shard at a time; VOTERS_PER_RESTORE_STEP in memory at most."""
        gathered: dict[int, Voters] = {}
        held = 0
        async for voter, candidates in self._ledger.voters_of(stored.number, day):
            shard = wire.shard_of(voter, stored.rules.shards)
            if shard in lost:
                gathered.setdefault(shard, {})[voter] = candidates
                held += 1
            if held == VOTERS_PER_RESTORE_STEP:
                for each in gathered.items():
                    yield each
                gathered, held = {}, 0
        for each in gathered.items():
            yield each


def _behind(store: Mapping[int, int], ledger: Mapping[int, int]) -> bool:
    return any(store.get(candidate, 0) < likes for candidate, likes in ledger.items())


def _by_candidate(voters: Voters) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {0: list(voters)}
    for voter, candidates in voters.items():
        for candidate in candidates:
            found.setdefault(candidate, []).append(voter)
    return found
