"""The JSON documents that commands print with `--json`, for programs; the sentences are for people and may change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from dianzan.domain.campaign import State
from dianzan.ledger.records import RosterChange, Seal, StoredCampaign, StoredRevocation
from dianzan.life.recount import Recount
from dianzan.roster.candidates import Candidate

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of sentences.")]


class SealDocument(msgspec.Struct):
    """The final tally as it was published: when, likes, distinct voters, and the SHA-256 of all that was sealed."""

    sealed_at: datetime
    likes: int
    people: int
    digest: str | None


class RecountDocument(msgspec.Struct):
    """What `dianzan recount --json` and `dianzan seal --json` print.

    `likes`: the sums by name: `store` unless it was not asked, `counts`, `ledger`, `identities`. `people`: distinct
    voters of the ledger.
    `waiting`: stream entries that only the store holds. `sealed`: null before the seal. `differences`: one sentence for
    each number that differs. `equal`: there is none; otherwise `recount` ends with exit code 1.
    """

    campaign: str
    likes: Mapping[str, int]
    people: int
    waiting: int
    sealed: SealDocument | None
    differences: list[str]
    equal: bool


class CampaignDocument(msgspec.Struct):
    """What `dianzan campaign show --json` prints; `rules` are the campaign file's fields, defaults filled in.

    `candidates` are the roster's lines, `minted` the number of tokens that operators have made.
    """

    id: str
    state: State
    version: int
    rules: Mapping[str, Any]
    candidates: list[Candidate]
    minted: int


class CampaignSummary(msgspec.Struct):
    """One campaign of `dianzan campaign list --json`; `rules` as in `show`."""

    id: str
    state: State
    version: int
    rules: Mapping[str, Any]


class CampaignListDocument(msgspec.Struct):
    """What `dianzan campaign list --json` prints: all campaigns, oldest first."""

    campaigns: list[CampaignSummary]


class RosterChangesDocument(msgspec.Struct):
    """What `dianzan campaign changes --json` prints, in the order of time.

    `before` is empty for a candidate who was new.
    """

    campaign: str
    changes: list[RosterChange]


class RevocationDocument(msgspec.Struct):
    """Tokens that are no longer taken: null is of any. Times are RFC 3339; `undone_at` is null while it is in force."""

    number: int
    voter_class: str | None
    publisher: str | None
    made_from: datetime | None
    made_until: datetime | None
    revoked_at: datetime
    reason: str
    undone_at: datetime | None


class RevocationsDocument(msgspec.Struct):
    """What `dianzan campaign revocations --json` prints, in the order of their numbers."""

    campaign: str
    revocations: list[RevocationDocument]


def of_recount(campaign: str, counted: Recount, seal: Seal | None, differences: list[str]) -> RecountDocument:
    """The document of a recount, and of the seal it was compared with."""
    sealed = SealDocument(seal.sealed_at, seal.likes, seal.people, seal.digest) if seal else None
    people = counted.people.get(0, 0)
    return RecountDocument(
        campaign, counted.totals, people, counted.waiting, sealed, differences, equal=not differences
    )


def of_campaign(stored: StoredCampaign, candidates: Iterable[Candidate], minted: int) -> CampaignDocument:
    """The document of a campaign and its roster."""
    rules = stored.rules.model_dump(mode="json")
    return CampaignDocument(stored.id, stored.state, stored.version, rules, list(candidates), minted)


def of_campaigns(campaigns: Iterable[StoredCampaign]) -> CampaignListDocument:
    """The document of all campaigns."""
    return CampaignListDocument(
        [CampaignSummary(each.id, each.state, each.version, each.rules.model_dump(mode="json")) for each in campaigns]
    )


def of_roster_changes(campaign: str, found: list[RosterChange]) -> RosterChangesDocument:
    """The document of a running campaign's changed roster."""
    return RosterChangesDocument(campaign, found)


def of_revocations(campaign: str, found: Iterable[StoredRevocation]) -> RevocationsDocument:
    """The document of a campaign's revocations."""
    return RevocationsDocument(campaign, [_revocation(each) for each in found])


def _revocation(found: StoredRevocation) -> RevocationDocument:
    wanted = found.revocation
    return RevocationDocument(
        wanted.number,
        wanted.voter_class.name if wanted.voter_class else None,
        found.publisher or None,
        _instant(wanted.made_from_s),
        _instant(wanted.made_until_s),
        found.revoked_at,
        found.reason,
        found.undone_at,
    )


def _instant(second: int | None) -> datetime | None:
    return None if second is None else datetime.fromtimestamp(second, UTC)


def show(document: msgspec.Struct) -> None:
    """Print a document on one line, in UTF-8 whatever the terminal's encoding is."""
    typer.echo(msgspec.json.encode(document))
