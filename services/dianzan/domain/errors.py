"""The one error tree; each error carries what its HTTP problem document needs, and no web framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class DianzanError(Exception):
    """Base of everything the project raises on purpose; its text is one sentence that says what to do."""


class ApiError(DianzanError):
    """An error a client sees as an RFC 9457 problem document: HTTP `status`, stable `code`, `retry_after_s`."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "The request is not valid"
    retry_after_s: int | None = None

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class BadRequest(ApiError):
    """The body or a parameter does not have the documented shape."""


class TokenMissing(ApiError):
    """No voter token was sent."""

    status, code, title = 401, "token_missing", "A voter token is needed"


class TokenInvalid(ApiError):
    """The token was not issued for this campaign, or was altered."""

    status, code, title = 401, "token_invalid", "The voter token is not valid"


class TokenExpired(ApiError):
    """The token was valid once."""

    status, code, title = 401, "token_expired", "The voter token has expired"


class TokenRevoked(ApiError):
    """The campaign's operators no longer take tokens of this kind."""

    status, code, title = 401, "token_revoked", "The voter token was revoked"


class ClassNotAllowed(ApiError):
    """The campaign does not take likes of this voter class."""

    status, code, title = 403, "class_not_allowed", "This kind of voter may not like here"


class VoterRefused(ApiError):
    """The campaign's operators take no likes of voters who come in this way."""

    status, code, title = 403, "voter_refused", "Nobody becomes a voter here in this way"


class CampaignUnknown(ApiError):
    """No published campaign has this id."""

    status, code, title = 404, "campaign_unknown", "There is no such campaign"


class CandidateUnknown(ApiError):
    """The campaign has no candidate of this code."""

    status, code, title = 404, "candidate_unknown", "There is no such candidate"


class NotFound(ApiError):
    """No such address."""

    status, code, title = 404, "not_found", "There is nothing at this address"


class MethodNotAllowed(ApiError):
    """The address exists, but not for this method."""

    status, code, title = 405, "method_not_allowed", "This address does not take that method"

    def __init__(self, detail: str, *, allow: str = "") -> None:
        super().__init__(detail)
        self.allow = allow


class NotOpen(ApiError):
    """The campaign has not opened yet."""

    status, code, title = 409, "not_open", "The campaign is not open yet"


class Closed(ApiError):
    """The campaign takes no more likes."""

    status, code, title = 409, "closed", "The campaign is closed"


class ResultsHidden(ApiError):
    """The campaign publishes nothing of its results until it is sealed."""

    status, code, title = 403, "results_hidden", "Results are published when the campaign is sealed"


class BodyTooLarge(ApiError):
    """The body is longer than the limit."""

    status, code, title = 413, "body_too_large", "The request body is too large"


class MediaTypeUnsupported(ApiError):
    """The content type is neither JSON nor text/plain."""

    status, code, title = 415, "media_type_unsupported", "Send application/json, or JSON as text/plain"


class TooManyRequests(ApiError):
    """One network asked for more voter tokens a minute than the limit."""

    status, code, title = 429, "too_many_requests", "Too many requests from this network"
    retry_after_s = 60


class Unavailable(ApiError):
    """Nothing is known of the outcome, or nothing was done: asking again with the same token is safe."""

    status, code, title = 503, "unavailable", "Please ask again"
    retry_after_s = 1


class StoreUnavailable(Unavailable):
    """The store did not answer, so a like may or may not be written; the same request again settles it."""

    code, title = "store_unavailable", "The like could not be confirmed; ask again"


class StoreUnsafe(Unavailable):
    """The store's settings do not keep the promise, so nothing is accepted."""

    code, title = "store_unsafe", "The store does not keep the promise; nothing was counted"
    retry_after_s = 10


class ClockSkewed(Unavailable):
    """This server's clock and the store's differ too far to name the window."""

    code, title = "clock_skewed", "A server clock is wrong; nothing was counted"
    retry_after_s = 5


class Overloaded(Unavailable):
    """The bounded queue is full; nothing was counted."""

    code, title = "overloaded", "Too many likes at this moment; nothing was counted"


class NoRoom(Unavailable):
    """The store's memory or disk is full, or too many likes wait for the ledger; more vote APIs do not help."""

    code, title = "store_full", "The store is full; nothing was counted"
    retry_after_s = 5


class ResultsUnavailable(Unavailable):
    """No snapshot of the counts has been read yet."""

    code, title = "results_unavailable", "The results have not been read yet"


class RulesMoved(Unavailable):
    """The shard runs another version of the rules, or another window, than the sender; nothing was written."""

    code, title = "rules_moved", "The campaign changed at this moment; nothing was counted"


class CampaignError(DianzanError):
    """A campaign file, a change of rules or a step in a campaign's life that is refused."""


class EdgeError(DianzanError):
    """What an edge raises; `reason` names it in a metric."""

    @property
    def reason(self) -> str:
        """The name of the driver's error where there is one."""
        return type(self.__cause__ or self).__name__


class LedgerError(EdgeError):
    """The ledger cannot do what it was asked to."""


class LedgerAway(LedgerError):
    """Postgres does not answer, is no primary, or ended this transaction; the same asked again settles it."""


class LedgerRefuses(LedgerError):
    """Postgres is there and refuses the rows themselves; asking again does not help."""


class StoreError(EdgeError):
    """The store refuses what it was asked to."""


class StoreAway(StoreError):
    """The store's server does not answer, or another one answers for it now; the same asked again settles it."""


class StoreFull(StoreError):
    """The store has no memory left for this write; nothing was written."""


class StoreUntold(StoreError):
    """The server may not tell what it is set to, or how full it is: its operator forbids CONFIG or INFO.

    `gaps`: what it does tell, and is wrong all the same.
    """

    def __init__(self, untold: str, gaps: Sequence[str] = ()) -> None:
        super().__init__(untold)
        self.gaps = list(gaps)


class DocumentUnreadable(StoreError):
    """The store's document of a campaign is not one that this version knows."""


class EntryUndecodable(DianzanError):
    """A stream entry that this version cannot read; it stays where it is."""
