"""Postgres may have come back as an older copy than the store has seen: what a step must know before it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.errors import CampaignError
from dianzan.ledger.records import StoredCampaign
from dianzan.ledger.step import CampaignStep
from dianzan.store.documents import Documents

OLDER_COPY: Final = "Postgres has come back as an older copy"
_NAMED_MAX: Final = 10  # candidates in a sentence


async def published_document(documents: Documents, campaign: StoredCampaign) -> Document | None:
    """What the store has of a campaign. Raises CampaignError if its key is another: every voter would be new."""
    published = await documents.read(campaign.id)
    if published is not None and campaign.secret is not None and campaign.secret.hex() != published.secret:
        raise CampaignError(
            f"The store holds a campaign {campaign.id} with another key than Postgres: they do not belong together. "
            "Bring back the Postgres that belongs to it, or give the new campaign another id."
        )
    return published


def rules_in_force(published: Document | None, campaign: StoredCampaign) -> Rules | None:
    """The rules that likes have been cast by: the store's if Postgres has an older copy. None in a draft."""
    if published is not None and published.version > campaign.version:
        return published.rules
    return campaign.rules if campaign.state is State.published else None


async def past_older_copy(documents: Documents, step: CampaignStep, campaign: StoredCampaign) -> StoredCampaign:
    """The campaign a step is about, its version past the store's if Postgres has come back as an older copy.

    Raises CampaignError if the older copy lacks candidates or publishers, which likes name by number: what it got
    in their place later would get their likes.
    """
    published = await published_document(documents, campaign)
    if published is None:
        return campaign
    if lacking := lacking_codes(published.candidates, list(await step.candidate_codes())):
        raise CampaignError(
            f"{OLDER_COPY}, and lacks candidates that voters know: {some(lacking)}. "
            f"Run dianzan campaign import-candidates {campaign.id} with a roster that has them, then this again."
        )
    if lacking := lacking_codes(list(published.publisher_number), list(await step.publisher_codes())):
        raise CampaignError(
            f"{OLDER_COPY}, and lacks publishers that likes have come by: {some(lacking)}. "
            "Run dianzan campaign create with the campaign file that has them, then this again."
        )
    for revocation in published.revocations:
        await step.take_revocation(revocation)  # or tokens that were revoked would be taken again, unsaid
    later = await step.pass_version(published.version)
    return campaign if later is None else replace(campaign, version=later)


def lacking_codes(known: Sequence[str], ours: Sequence[str]) -> Sequence[str]:
    """What the store knows beyond ours, both by number. Raises CampaignError if a number they share has two codes."""
    for number, (theirs, our) in enumerate(zip(known, ours, strict=False), start=1):
        if theirs != our:
            raise CampaignError(
                f"Number {number} is {theirs} in the store and {our} in Postgres, and likes go by the number: "
                "one of them is of another campaign, bring back the right one."
            )
    return known[len(ours) :]


def some(codes: Sequence[str]) -> str:
    """The codes, or the first of many."""
    return ", ".join(codes[:_NAMED_MAX]) + (f" and {len(codes) - _NAMED_MAX} more" if len(codes) > _NAMED_MAX else "")
