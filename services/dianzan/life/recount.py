"""The recount: four independent counts of one campaign, and whether they are equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.store.store import Store


@dataclass(frozen=True, slots=True)
class Recount:
    """Likes per candidate index, counted four ways, and exact people per candidate (0: of the campaign).

    store: the store's counters. counts: Postgres's running counts. ledger: rows of the ledger. identities: distinct
    (window, candidate, voter) of the ledger, counted without trusting its primary key. `waiting` stream entries are
    in the store only.
    """

    store: Mapping[int, int]
    counts: Mapping[int, int]
    ledger: Mapping[int, int]
    identities: Mapping[int, int]
    people: Mapping[int, int]
    waiting: int

    @property
    def totals(self) -> dict[str, int]:
        """The four sums, by name."""
        return {name: sum(count.values()) for name, count in self._four().items()}

    @property
    def equal(self) -> bool:
        """Whether the four agree on every candidate."""
        return not self._differing()

    @property
    def store_is_behind(self) -> bool:
        """Whether the store has lost likes: it counts each before the ledger does, so it is not behind by itself."""
        return any(self.store.get(index, 0) < likes for index, likes in self.ledger.items())

    def differences(self) -> str:
        """One line a candidate on which the four disagree."""
        four = self._four()
        lines = (
            f"candidate {index}: " + ", ".join(f"{name} {count.get(index, 0)}" for name, count in four.items())
            for index in self._differing()
        )
        return "\n".join(lines)

    def _four(self) -> dict[str, Mapping[int, int]]:
        return {"store": self.store, "counts": self.counts, "ledger": self.ledger, "identities": self.identities}

    def _differing(self) -> list[int]:
        four = self._four().values()
        indexes = sorted({index for count in four for index in count})
        return [index for index in indexes if len({count.get(index, 0) for count in four}) > 1]


async def recount(store: Store, ledger: Ledger, campaign: StoredCampaign) -> Recount:
    """Count four ways. Exact at rest; while likes are cast the store is ahead by what waits in the streams."""
    return Recount(
        store=await store.tallies.total(campaign.shards),
        counts=await ledger.recounts.counts(campaign),
        ledger=await ledger.recounts.rows(campaign),
        identities=await ledger.recounts.identities(campaign),
        people=await ledger.recounts.people(campaign),
        waiting=sum(entries or 0 for entries in await store.streams.backlog(campaign.shards)),
    )
