"""Every answer of the results API, each declared once: the bytes and the OpenAPI text are made from it.

The order of the fields is the order in the bytes; those of `Measured` stand last, as keyword-only ones do.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from dianzan.domain.campaign import State
from dianzan.roster.candidates import KIND_NAMES

Kind = Annotated[str, Meta(extra_json_schema={"enum": sorted(set(KIND_NAMES.values()))})]
PublicState = Annotated[
    str, Meta(extra_json_schema={"enum": [each.value for each in State if each is not State.draft]})
]


class CampaignSummary(Struct, frozen=True):
    """The public rules and state of a campaign."""

    id: str
    title: str
    opens: str
    closes: str
    timezone: str
    window: Literal["day", "campaign"]
    likes_per_window: int
    voter_classes: list[str]
    results: Literal["live", "hidden"]
    publishers: list[str]
    title_en: str
    brand: str
    brand_en: str
    introduction: str
    how_to_like: str
    organiser: str
    contact: str
    icp_number: str
    privacy: str
    state: PublicState
    candidates: int
    version: int


class CampaignList(Struct, frozen=True):
    """All published campaigns, oldest first."""

    campaigns: list[CampaignSummary]


class Measured(Struct, frozen=True, kw_only=True):
    """Likes and people (distinct voters), null while hidden; `people` is an estimate (near 1%) until `sealed`."""

    likes: int | None
    people: int | None
    people_estimated: bool
    sealed: bool
    version: int  # of the campaign's rules, roster and state: when it rises, what was read of them is to be read again
    as_of: str  # last, and no part of the entity tag: the same numbers read later are the same document


class ResultRow(Struct, frozen=True, gc=False):
    """One candidate; rank, likes and people are null while results are hidden. `pinyin` is what a search takes too."""

    rank: int | None
    code: str
    name: str
    pinyin: str
    kind: Kind
    district: str
    category: str
    summary: str
    photo: str
    likes: int | None
    people: int | None


class Results(Measured, frozen=True):
    """All candidates by rank; by code while results are hidden. The totals are of the whole campaign."""

    campaign: str
    state: PublicState
    opens: str
    closes: str
    results: list[ResultRow]


class CandidateResult(Measured, frozen=True):
    """One candidate with its story; the numbers are the candidate's own."""

    campaign: str
    rank: int | None
    code: str
    name: str
    pinyin: str
    kind: Kind
    district: str
    category: str
    summary: str
    story: str
    photo: str


class TallyRow(Struct, frozen=True, gc=False):
    """One line of the tally."""

    rank: int | None
    code: str
    name: str
    likes: int | None
    people: int | None


class TallyDocument(Measured, frozen=True):
    """The tally; final once `sealed` is true. `digest`: SHA-256 of all that was sealed, as `dianzan recount` has it."""

    campaign: str
    tally: list[TallyRow]
    digest: str | None


class Standing(Struct, frozen=True, array_like=True, gc=False):
    """A candidate's numbers in an event: [rank, likes, people]."""

    rank: int | None
    likes: int | None
    people: int | None


class ResultsEvent(Measured, frozen=True):
    """The data of a server-sent event: standings by candidate's code, none while results are hidden, and totals."""

    counts: dict[str, Standing]


class Hour(Struct, frozen=True, gc=False):
    """Likes of one hour of the campaign's time zone."""

    hour: str
    likes: int


class Day(Struct, frozen=True, gc=False):
    """Likes of one day of the campaign's time zone."""

    day: str
    likes: int


class Timeline(Struct, frozen=True):
    """Likes per hour and day; those without likes are left out; null while results are hidden."""

    campaign: str
    timezone: str
    hours: list[Hour] | None
    days: list[Day] | None


class Readiness(Struct, frozen=True):
    """Whether fresh counts are served, and how old they are; null before the first reading."""

    ready: bool
    age_s: float | None
