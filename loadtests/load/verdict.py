"""The verdict: whether what voters were answered, the ledger, the counts and what is published are the same likes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from loadtests.checks import Check, Verdict, none, same

FALLS_MAX = 1_000  # falls kept by one watch; the first is enough to fail


class Identity(NamedTuple):
    """One like: who, whom, and in which window (named by the moment it ends)."""

    voter: str
    candidate: str
    window: str

    def __str__(self) -> str:
        return f"voter {self.voter[:16]}… candidate {self.candidate} window until {self.window}"


class Answer(NamedTuple):
    """What one answer said of one like."""

    identity: Identity
    status: str
    receipt: str | None


@dataclass(frozen=True)
class Evidence:
    """Everything a run has seen. All counts are of this run: what was there before it is already taken off.

    lost: likes for which an answer did not arrive, so that the next one may say `already_liked`.
    unresolved: likes that were asked for and never answered, not even at the end.
    totals: sums by store, counts, ledger and identities. record: the public record's (candidate, receipt) pairs.
    published: likes by candidate at the results API, and the sum it states. falls: numbers seen to fall.
    """

    quota: int
    answers: Sequence[Answer]
    lost: frozenset[tuple[str, str]] = frozenset()
    unresolved: Sequence[tuple[str, str]] = ()
    refused: Mapping[int, int] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    record: Mapping[tuple[str, str], int] = field(default_factory=dict)
    published: Mapping[str, int] = field(default_factory=dict)
    published_sum: int = 0
    falls: Sequence[str] = ()
    recount_differences: Sequence[str] = ()

    @cached_property
    def counted(self) -> Counter[Identity]:
        """How often each like was answered `counted`."""
        return Counter(answer.identity for answer in self.answers if answer.status == "counted")

    @cached_property
    def receipts(self) -> Mapping[Identity, Counter[str | None]]:
        """The receipts each like was given; a like that has one is a like that counts."""
        found: defaultdict[Identity, Counter[str | None]] = defaultdict(Counter)
        for answer in self.answers:
            if answer.status in ("counted", "already_liked"):
                found[answer.identity][answer.receipt] += 1
        return found

    @cached_property
    def by_voter(self) -> Counter[tuple[str, str]]:
        """Likes of each voter in each window."""
        return Counter((identity.voter, identity.window) for identity in self.receipts)

    @property
    def likes(self) -> int:
        """Likes that were answered as standing."""
        return len(self.receipts)

    @property
    def confirmed(self) -> int:
        """Those of them whose answer `counted` was lost; asking again said `already_liked`."""
        return self.likes - len(self.counted)


def judge(evidence: Evidence) -> Verdict:
    """Compare everything with everything. A run without a single like proves nothing and does not pass."""
    return Verdict(
        [
            Check("some likes were counted", 1, min(1, evidence.likes)),
            _each_counted_once(evidence),
            _standing_likes_were_counted(evidence),
            _same_receipt(evidence),
            _public_record(evidence),
            *[Check(f"likes answered = {name}", evidence.likes, total) for name, total in evidence.totals.items()],
            none("candidates on which the recount differs", evidence.recount_differences),
            *_published(evidence),
            _quota_kept(evidence),
            _over_quota_is_true(evidence),
            none("published numbers that fell", evidence.falls),
            none("likes never answered", [f"voter {voter[:16]}… {code}" for voter, code in evidence.unresolved]),
            none("like requests refused", [f"{n} × HTTP {status}" for status, n in evidence.refused.items()]),
        ]
    )


def _each_counted_once(evidence: Evidence) -> Check:
    twice = [f"{identity}: counted {n} times" for identity, n in evidence.counted.items() if n > 1]
    return Check("answers `counted` = distinct likes counted", len(evidence.counted), evidence.counted.total(), twice)


def _standing_likes_were_counted(evidence: Evidence) -> Check:
    # A like may stand without a `counted` answer only if that answer was lost on its way.
    never = [
        f"{identity}: already_liked, but no answer said counted and none was lost"
        for identity in evidence.receipts
        if identity not in evidence.counted and identity[:2] not in evidence.lost
    ]
    return none("likes standing that nobody was told were counted", never)


def _same_receipt(evidence: Evidence) -> Check:
    changed = [
        f"{identity}: receipts {', '.join(str(receipt) for receipt in receipts)}"
        for identity, receipts in evidence.receipts.items()
        if len(receipts) != 1 or None in receipts
    ]
    return none("likes whose receipt changed or is missing", changed)


def _public_record(evidence: Evidence) -> Check:
    owner = {(i.candidate, str(receipt)): i for i, receipts in evidence.receipts.items() for receipt in receipts}

    def described(pair: tuple[str, str]) -> str:
        return f"{owner.get(pair, f'candidate {pair[0]}')} receipt {pair[1]}"

    compared = same("likes answered = public record of the ledger", dict.fromkeys(owner, 1), evidence.record, described)
    return replace(compared, expected=evidence.likes)  # should two likes ever share a receipt, that shows too


def _published(evidence: Evidence) -> list[Check]:
    answered = Counter(identity.candidate for identity in evidence.receipts)
    return [
        same("likes answered = published, candidate by candidate", answered, evidence.published, "candidate {}".format),
        Check("likes answered = published sum", evidence.likes, evidence.published_sum),
    ]


def _quota_kept(evidence: Evidence) -> Check:
    over = [f"voter {v[:16]}…: {n} likes until {w}" for (v, w), n in evidence.by_voter.items() if n > evidence.quota]
    return none(f"voters with more than {evidence.quota} likes in a window", over)


def _over_quota_is_true(evidence: Evidence) -> Check:
    refused = {(a.identity.voter, a.identity.window) for a in evidence.answers if a.status == "over_quota"}
    early = [
        f"voter {voter[:16]}…: over_quota with {evidence.by_voter[voter, window]} likes until {window}"
        for voter, window in sorted(refused)
        if evidence.by_voter[voter, window] < evidence.quota
    ]
    return none("voters refused before their quota was used", early)


class Watch:
    """Remembers the highest numbers each reader has seen; published numbers must never fall."""

    def __init__(self, on_fall: Callable[[str], None] | None = None) -> None:
        self._seen: dict[str, dict[str, int]] = {}
        self._on_fall = on_fall
        self.falls: list[str] = []

    def see(self, reader: str, likes: Iterable[tuple[str, int]]) -> None:
        """Take one document read by `reader`, whose requests follow each other."""
        seen = self._seen.setdefault(reader, {})
        for code, number in likes:
            before = seen.get(code, 0)
            if number < before:
                self._note(f"{reader} saw {code} fall from {before} to {number}")
            seen[code] = number

    def _note(self, fall: str) -> None:
        if len(self.falls) < FALLS_MAX:
            self.falls.append(fall)
            if self._on_fall is not None:
                self._on_fall(fall)
