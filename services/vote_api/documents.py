"""Every request and answer of the vote API, each declared once: the bytes and the OpenAPI text are made from it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from dianzan.domain.limits import CANDIDATES_PER_BALLOT_MAX
from dianzan.domain.voters import VoterClass
from dianzan.domain.wire import Status

Receipt = Annotated[str, Meta(examples=["8ZK3M0Q9T2VWXA4B"])]
StatusName = Annotated[str, Meta(extra_json_schema={"enum": [*Status.__members__, "unknown_candidate"]})]
ClassName = Annotated[str, Meta(extra_json_schema={"enum": list(VoterClass.__members__)})]
Instant = Annotated[datetime, Meta(tz=True)]


class LikeRequest(Struct):
    """1 to the campaign's quota of candidates, by code; the token only where no Authorization header is sent."""

    candidates: Annotated[
        list[str],
        # The bounds are told, not checked by the decoder: doubles are dropped before candidates are counted (body.py).
        Meta(extra_json_schema={"minItems": 1, "maxItems": CANDIDATES_PER_BALLOT_MAX}, examples=[["c01", "c17"]]),
    ]
    token: str | None = None


class LikeResult(Struct):
    """What became of one like. The receipt is the same for every retry; absent where nothing is liked."""

    candidate: str
    status: StatusName
    receipt: Receipt | UnsetType = UNSET


class LikeAnswer(Struct):
    """One result a candidate, the likes this voter has left in the window, and when the window ends."""

    # The one document whose bytes are not made from its struct: the like path puts them together from cached pieces
    # (likes/path.py), and a test holds them to this struct.

    results: list[LikeResult]
    remaining: int
    # A window has the text ready; null in the last one.
    resets_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None


class VoterRequest(Struct):
    """Which media site asks; absent or unknown means the campaign's own page. `token`: one to renew, for its voter."""

    publisher: Annotated[str | None, Meta(examples=["bjnews"])] = None
    token: str | None = None


class VoterAnswer(Struct):
    """A bearer token for one voter in one campaign; keep it, and renew it, since a new one is a new voter."""

    token: str
    voter_class: ClassName = field(name="class")
    expires_at: Instant
    publisher: str | None  # the code under which likes are told apart; null for one that the campaign does not have


class MyLike(Struct):
    """One like of this voter in this window."""

    candidate: str
    receipt: Receipt


class MyLikes(Struct):
    """What this voter has liked in this window."""

    likes: list[MyLike]
    remaining: int
    resets_at: Instant | None


class Readiness(Struct):
    """Whether likes are taken, and what stands in the way or was waived."""

    ready: bool
    promise: Literal["kept", "attested", "broken", "waived"]
    reasons: list[str]
