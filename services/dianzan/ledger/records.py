"""What the ledger's rows are in Python: a campaign as it is stored, a tally, a seal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from dianzan.domain.campaign import Rules, State
from dianzan.domain.shard import Shard
from dianzan.domain.voters import Revocation
from dianzan.roster.changes import Change


@dataclass(frozen=True, slots=True)
class StoredCampaign:
    """One row of `campaigns`."""

    number: int
    rules: Rules
    version: int
    state: State
    width: int | None
    secret: bytes | None
    swept_through: date | None
    foreign_since: datetime | None = None  # when likes were found that the store never took; until they are decided on

    @property
    def id(self) -> str:
        """The campaign's id in addresses and keys."""
        return self.rules.id

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The campaign's shards by their numbers."""
        return self.rules.every_shard

    @property
    def hidden(self) -> bool:
        """Whether its numbers are kept from the public now."""
        return self.rules.results == "hidden" and self.state is not State.sealed


@dataclass(frozen=True, slots=True)
class RosterChange:
    """One row of `roster_changes`."""

    changed_at: datetime
    change: Change


@dataclass(frozen=True, slots=True)
class StoredRevocation:
    """One row of `revocations`; `publisher` is its code, empty where it is of any."""

    revocation: Revocation
    revoked_at: datetime
    reason: str
    undone_at: datetime | None
    publisher: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Two numbers of one candidate: likes, and people (distinct voters; an estimate until sealed)."""

    likes: int
    people: int


@dataclass(frozen=True, slots=True)
class Seal:
    """The published final numbers of a campaign; `tallies` is candidate index -> (rank, tally).

    `digest`: SHA-256 of the canonical document of what was sealed; None of a seal of before. `parts`: of its parts.
    """

    sealed_at: datetime
    likes: int
    people: int
    tallies: dict[int, tuple[int, Tally]]
    digest: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contents:
    """What a seal fixes beside the numbers: rules, candidates and publishers as they stand in the tables."""

    rules: Mapping[str, Any]
    candidates: list[dict[str, Any]]
    publishers: list[dict[str, Any]]
