"""Which changes a published campaign may still see: none that gives likes already cast another meaning."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from dianzan.domain.campaign import Rules
from dianzan.domain.errors import CampaignError
from dianzan.domain.wire import width_of

# Fields whose change would give likes already cast another meaning, and why.
_FIXED: Final = {
    "timezone": "the windows of likes already cast would move",
    "window": "likes already cast would fall into other windows",
    "likes_per_window": "voters who used the old quota would be treated unlike others",
    "shards": "a voter's earlier marks would not be found",
    "expected_voters": "a voter's earlier marks would not be found (it sizes the buckets)",
}


def refused_changes(old: Rules, new: Rules, at: datetime) -> list[str]:
    """Why `new` may not follow `old` in a published campaign at instant `at`; empty if it may."""
    reasons = [f"{name}: {why}" for name, why in _FIXED.items() if getattr(old, name) != getattr(new, name)]
    if new.opens != old.opens and (at >= old.opens or new.opens < at):
        reasons.append("opens: the opening can be moved only before it, and only into the future")
    if new.opens != old.opens and old.window == "campaign":
        reasons.append("opens: it names the window of a campaign-long window")
    if new.closes != old.closes and (at >= old.closes or new.closes < at):
        reasons.append("closes: the end can be moved only before it, and only into the future")
    if not set(old.voter_classes) <= set(new.voter_classes):
        reasons.append("voter_classes: likes of a class already allowed would become likes of nobody")
    if gone := set(old.publisher_codes) - set(new.publisher_codes):
        reasons.append(f"publishers: likes may have come by {', '.join(sorted(gone))}; none is taken off the list")
    return reasons


def next_width(published_width: int | None, candidates: int) -> int:
    """The index width; fixed at first publication, since marks already stored are of that width."""
    wanted = width_of(candidates)
    if published_width is None:
        return wanted
    if wanted > published_width:
        raise CampaignError("A campaign published with up to 255 candidates cannot grow past 255: start another one.")
    return published_width
