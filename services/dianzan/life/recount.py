"""The recount: independent counts of one campaign, whether they are equal, and whether every like keeps the rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.store.store import Store


@dataclass(frozen=True, slots=True)
class Recount:
    """Likes per candidate index, counted four ways, and exact people per candidate (0: of the campaign).

    store: the store's counters. counts: Postgres's running counts. ledger: rows of the
    ledger. identities: distinct (window, candidate, voter) of the ledger, counted without trusting its primary key.
    `waiting` stream entries are in the store only. `broken`: one line a rule that likes in the ledger do not keep.
    `ledger_only`: the store was not asked.
    """

    store: Mapping[int, int]
    counts: Mapping[int, int]
    ledger: Mapping[int, int]
    identities: Mapping[int, int]
    people: Mapping[int, int]
    waiting: int
    broken: tuple[str, ...] = ()
    ledger_only: bool = False

    @property
    def totals(self) -> dict[str, int]:
        """The sums, by name."""
        return {name: sum(count.values()) for name, count in self._each().items()}

    @property
    def equal(self) -> bool:
        """Whether they agree on every candidate, and every like keeps the rules."""
        return self.counts_agree and not self.broken

    @property
    def counts_agree(self) -> bool:
        """Whether they agree on every candidate."""
        return not self._differing()

    @property
    def store_is_behind(self) -> bool:
        """Whether the store has lost likes: it counts each before the ledger does, so it is not behind by itself."""
        return any(self.store.get(index, 0) < likes for index, likes in self.ledger.items())

    @property
    def rows_are_counted(self) -> bool:
        """Whether the ledger's rows and its counts agree, which change in one transaction."""
        return self.ledger == self.identities and _without_zeros(self.ledger) == _without_zeros(self.counts)

    def differences(self) -> str:
        """One line a candidate on which they disagree, and one a rule that is broken."""
        each = self._each()
        lines = [
            f"candidate {index}: " + ", ".join(f"{name} {count.get(index, 0)}" for name, count in each.items())
            for index in self._differing()
        ]
        return "\n".join([*lines, *self.broken])

    def _each(self) -> dict[str, Mapping[int, int]]:
        ledger = {"counts": self.counts, "ledger": self.ledger, "identities": self.identities}
        return ledger if self.ledger_only else {"store": self.store, **ledger}

    def _differing(self) -> list[int]:
        each = self._each().values()
        indexes = sorted({index for count in each for index in count})
        return [index for index in indexes if len({count.get(index, 0) for count in each}) > 1]


async def recount(store: Store | None, ledger: Ledger, campaign: StoredCampaign) -> Recount:
    """Count four ways, or three without the store, and look at every like.

    Exact at rest; while likes are cast the store is ahead by what waits in the streams.
    """
    return Recount(
        store=await store.tallies.total(campaign.shards) if store else {},
        counts=await ledger.recounts.counts(campaign),
        ledger=await ledger.recounts.rows(campaign),
        identities=await ledger.recounts.identities(campaign),
        people=await ledger.recounts.people(campaign),
        waiting=sum(entries or 0 for entries in await store.streams.backlog(campaign.shards)) if store else 0,
        broken=broken_rules(await ledger.recounts.strays(campaign)),
        ledger_only=store is None,
    )


def broken_rules(strays: Mapping[str, int]) -> tuple[str, ...]:
    """One line a kind of like that must not be, and is."""
    return tuple(f"{likes:,} {what}" for what, likes in strays.items() if likes)


def _without_zeros(count: Mapping[int, int]) -> dict[int, int]:
    return {index: likes for index, likes in count.items() if likes}
