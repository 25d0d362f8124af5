"""What a seal fixes: one canonical document, its digest, and how the tables as they are now differ from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from dianzan.domain.campaign import State
from dianzan.domain.ranking import ranked
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import Contents, Seal, StoredCampaign, Tally
from dianzan.life.recount import Recount
from dianzan.store.store import Store

FORMAT: Final = "dianzan-seal-1"
_NOTHING: Final = (0, Tally(0, 0))


def digests(campaign_id: str, contents: Contents, seal: Seal) -> tuple[str, dict[str, str]]:
    """SHA-256 of the canonical document of what is sealed, and of each of its parts, to name one that differs.

    The document is JSON in UTF-8 with sorted keys and without blanks. Rules are those in the ledger, not as this
    release reads them: a field that a later release adds changes no digest.
    """
    code_of = {candidate["candidate"]: candidate["code"] for candidate in contents.candidates}
    parts: dict[str, Any] = {
        "campaign": campaign_id,
        "rules": contents.rules,
        "candidates": contents.candidates,
        "publishers": contents.publishers,
        "tally": [
            {"candidate": index, "code": code_of.get(index), "rank": rank, "likes": tally.likes, "people": tally.people}
            for index, (rank, tally) in sorted(seal.tallies.items())
        ],
        "sums": {"likes": seal.likes, "people": seal.people},
        "sealed_at": seal.sealed_at.isoformat(),
    }
    return _digest({"format": FORMAT, **parts}), {name: _digest(part) for name, part in parts.items()}


async def against_seal(ledger: Ledger, campaign: StoredCampaign, counted: Recount) -> tuple[Seal | None, list[str]]:
    """The seal, and one line for everything that the tables give otherwise now; (None, []) before the seal."""
    seal = await ledger.campaigns.seal(campaign)
    if seal is None:
        return None, []
    contents = await ledger.campaigns.contents(campaign)
    return seal, [*_other_numbers(counted, seal), *_changed_parts(campaign.id, contents, seal)]


async def against_published(store: Store, ledger: Ledger, campaign: StoredCampaign) -> list[str]:
    """One line for what the ledger's tables say otherwise than the document by which the vote APIs take likes."""
    published = await store.documents.read(campaign.id)
    if published is None or campaign.state is State.draft:
        return []
    document = await ledger.campaigns.document(campaign)
    if published.version != document.version:
        return [f"version: {document.version} in the ledger, {published.version} published"]
    parts = ("rules", "candidates", "publishers", "revocations")
    return [f"{part}: not what is published" for part in parts if getattr(document, part) != getattr(published, part)]


def _changed_parts(campaign_id: str, contents: Contents, seal: Seal) -> list[str]:
    if seal.digest is None:
        return []  # of a release before digests
    digest, parts = digests(campaign_id, contents, seal)
    changed = [name for name, part in parts.items() if part != seal.parts.get(name)]
    lines = [f"{name}: not what was sealed" for name in changed]
    return lines if digest == seal.digest else [*lines, f"digest: sealed {seal.digest}, now {digest}"]


def _other_numbers(counted: Recount, seal: Seal) -> list[str]:
    """One line a number of the sealed tally that the ledger's rows do not give: rank, likes and people alike."""
    ranks = ranked({index: counted.ledger.get(index, 0) for index in seal.tallies})
    lines = []
    for index in sorted(seal.tallies.keys() | counted.ledger.keys()):
        found = ranks.get(index, 0), Tally(counted.ledger.get(index, 0), counted.people.get(index, 0))
        if (was := seal.tallies.get(index, _NOTHING)) != found:
            lines.append(f"candidate {index}: sealed {_ranked(*was)}, ledger {_ranked(*found)}")
    total = Tally(seal.likes, seal.people)
    found_total = Tally(sum(counted.ledger.values()), counted.people.get(0, 0))
    return lines if total == found_total else [*lines, f"in all: sealed {_both(total)}, ledger {_both(found_total)}"]


def _ranked(rank: int, tally: Tally) -> str:
    return f"{_both(tally)}, rank {rank}"


def _both(tally: Tally) -> str:
    return f"{tally.likes:,} likes of {tally.people:,} people"


def _digest(part: Mapping[str, Any] | list[Any] | str) -> str:
    return sha256(json.dumps(part, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
