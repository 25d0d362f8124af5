"""Rebuilds the store's view of a campaign from the ledger after the store, or a part of it, was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

from dianzan import wire
from dianzan.campaign import Document, State
from dianzan.clock import from_ms, now_ms, to_ms
from dianzan.errors import CampaignError
from dianzan.ledger import Ledger, StoredCampaign
from dianzan.lifecycle import Lifecycle
from dianzan.limits import MARKS_KEPT_DAYS, VOTERS_PER_RESTORE_STEP
from dianzan.vote_store import VoteStore


@dataclass(frozen=True, slots=True)
class Restored:
    """What was rebuilt: the shards that had lost their gate, and the likes of theirs that the ledger holds."""

    shards: list[int]
    likes: int


class Restorer:
    """Rebuilds shards that have lost their gate, and no others.

    Such a shard takes no likes, so nothing moves while it is rebuilt. Everything is cleared first and written from the
    ledger alone, the gate last: interrupted at any point it is run again, and gives the same result. Likes that only
    the lost store held are not in the ledger and cannot come back; one node's promise is a store that keeps its disk.
    """

    def __init__(self, store: VoteStore, ledger: Ledger, lifecycle: Lifecycle) -> None:
        self._store, self._ledger, self._lifecycle = store, ledger, lifecycle

    async def restore(self, campaign: str, *, drain_s_max: float) -> Restored:
        """Rebuild, compare, open again. Raises CampaignError where the rebuilt shards do not equal the ledger."""
        stored = await self._lifecycle.stored(campaign)
        if stored.state is State.draft:
            raise CampaignError(f"Campaign {campaign} was never published: there is nothing to restore.")
        await self._store.load_library()
        lost = await self._store.gates_missing(campaign, stored.rules.shards)
        await self._lifecycle.drain(stored, drain_s_max)
        document = await self._ledger.document(stored)
        for shard in lost:
            await self._store.clear_shard(stored.rules, shard)
        await self._write_voters(stored, document, set(lost))
        likes = await self._write_counts(stored, lost)
        await self._compare(stored, document, lost)
        await self._lifecycle.reopen(document)
        return Restored(lost, likes)

    async def _write_voters(self, stored: StoredCampaign, document: Document, lost: set[int]) -> None:
        kept_from_ms = to_ms(from_ms(now_ms()) - timedelta(days=MARKS_KEPT_DAYS))
        for day in stored.rules.window_dates() if lost else []:
            window = stored.rules.window_on(day)
            marked = window.end_ms > kept_from_ms
            voters = self._ledger.voters_of(stored.number, day)
            async for step in _steps(voters, VOTERS_PER_RESTORE_STEP):
                by_shard: dict[int, dict[bytes, list[int]]] = {}
                for voter, candidates in step.items():
                    by_shard.setdefault(wire.shard_of(voter, stored.rules.shards), {})[voter] = candidates
                for shard in lost & by_shard.keys():
                    if marked:
                        await self._store.write_marks(document, shard, window.day, by_shard[shard])
                    await self._store.people(stored.id, shard, _by_candidate(by_shard[shard]))

    async def _write_counts(self, stored: StoredCampaign, lost: list[int]) -> int:
        counts = await self._ledger.shard_counts(stored.number)
        for shard in lost:
            await self._store.write_counts(stored.id, shard, counts.get(shard, {}))
        return sum(sum(counts.get(shard, {}).values()) for shard in lost)

    async def _compare(self, stored: StoredCampaign, document: Document, lost: list[int]) -> None:
        """The counters against rows of the ledger, and the marks of the window that runs now against its voters."""
        ledger = await self._ledger.recount_ledger(stored.number)
        store = await self._store.counts(stored.id, stored.rules.shards)
        if {index: likes for index, likes in store.items() if likes} != ledger:
            raise CampaignError(f"Not opened: the restored counters differ from the ledger: {store} and {ledger}.")
        day = stored.rules.window_at(now_ms()).date
        window = stored.rules.window_on(day)
        async for step in _steps(self._ledger.voters_of(stored.number, day), VOTERS_PER_RESTORE_STEP):
            for voter, candidates in step.items():
                if wire.shard_of(voter, stored.rules.shards) not in lost:
                    continue
                marked = await self._store.liked(document, window.day, voter)
                if set(marked) != set(candidates):
                    raise CampaignError(f"Not opened: a voter's marks are {marked}, the ledger has {candidates}.")


async def _steps(voters: AsyncIterator[tuple[bytes, list[int]]], size: int) -> AsyncIterator[dict[bytes, list[int]]]:
    step: dict[bytes, list[int]] = {}
    async for voter, candidates in voters:
        step[voter] = candidates
        if len(step) == size:
            yield step
            step = {}
    if step:
        yield step


def _by_candidate(voters: dict[bytes, list[int]]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {0: list(voters)}
    for voter, candidates in voters.items():
        for candidate in candidates:
            found.setdefault(candidate, []).append(voter)
    return found
