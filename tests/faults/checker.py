"""The checker: knows only what voters were told and what is found outside at the end; names every broken promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.faults.journal import Attempt, Heard

Identity = tuple[str, bytes]  # candidate's code, voter; a run has one campaign and one window
LIKED = ("counted", "already_liked")


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken: its kind, and an example."""

    kind: str
    example: str


@dataclass
class Truth:
    """What is found when all is at rest, by asking the stores and the results API themselves.

    `ledger` holds every row, twice where it stands twice. `published` are (seconds, code -> likes) as they were read.
    """

    quota: int
    receipt_of: Callable[[str, bytes], str]
    ledger: list[Identity]
    counts: Mapping[str, int]
    store: Mapping[str, int]
    published: Sequence[tuple[float, Mapping[str, int]]]
    sealed_s: float | None = None
    undurable: list[tuple[float, float]] = field(default_factory=list)  # when no 200 could be honest
    lacking: list[tuple[float, float]] = field(default_factory=list)  # when PostgreSQL itself had lost likes
    record: list[tuple[str, str]] | None = None  # candidate's code, receipt: the public record, where it was asked for


def check(attempts: Sequence[Attempt], truth: Truth) -> list[Violation]:
    """Every promise against one run; at most three examples a kind."""
    found: dict[str, list[Violation]] = {}
    for rule in RULES:
        for violation in rule(attempts, truth):
            found.setdefault(violation.kind, []).append(violation)
    return [violation for violations in found.values() for violation in violations[:3]]


def acknowledged(attempts: Iterable[Attempt]) -> set[Identity]:
    """Likes that some answer has called counted, or liked already."""
    return {
        (code, attempt.voter)
        for attempt in attempts
        for code, (status, _receipt) in attempt.results.items()
        if status in LIKED
    }


def unresolved(attempts: Iterable[Attempt]) -> set[Identity]:
    """Likes of which nobody has heard for sure: unknown once, and neither liked nor over the quota later."""
    settled: set[Identity] = set()
    asked: set[Identity] = set()
    for attempt in attempts:
        if attempt.heard is Heard.ok:
            settled |= {(code, attempt.voter) for code in attempt.results}
        elif attempt.heard is not Heard.fail:
            asked |= {(code, attempt.voter) for code in attempt.codes}
    return asked - settled


def lost(attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """Every acknowledged like is in the ledger."""
    ledger = set(truth.ledger)
    for code, voter in sorted(acknowledged(attempts) - ledger):
        yield Violation("lost", f"the like of {voter.hex()} for {code} was acknowledged and is not in the ledger")


def double(attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """Each identity stands in the ledger once, is counted once, and is called counted once."""
    told = ((code, a.voter) for a in attempts for code, (status, _) in a.results.items() if status == "counted")
    for (code, voter), times in Counter(told).items():
        if times > 1:
            yield Violation("double", f"the like of {voter.hex()} for {code} was called counted {times} times")
    for (code, voter), rows in Counter(truth.ledger).items():
        if rows > 1:
            yield Violation("double", f"the like of {voter.hex()} for {code} stands in the ledger {rows} times")
    distinct = Counter(code for code, _voter in set(truth.ledger))
    for name, counted in (("counts", truth.counts), ("the store", truth.store)):
        for code, likes in counted.items():
            if likes > distinct[code]:
                yield Violation("double", f"{name} hold {likes} likes of {code}, {distinct[code]} voters liked it")


def invented(attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """Nothing is in the ledger that nobody asked for."""
    asked = {(code, attempt.voter) for attempt in attempts for code in attempt.codes}
    for code, voter in sorted(set(truth.ledger) - asked):
        yield Violation("invented", f"nobody asked for the like of {voter.hex()} for {code}")


def unequal(attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """At rest: store = counts = rows of the ledger = what is published = acknowledged, or never heard of."""
    rows = Counter(code for code, _voter in truth.ledger)
    numbers: dict[str, Mapping[str, int]] = {"counts": truth.counts, "store": truth.store}
    if truth.published:
        numbers["published"] = truth.published[-1][1]
    for name, counted in numbers.items():
        for code in sorted({*rows, *counted}):
            if counted.get(code, 0) != rows[code]:
                yield Violation("unequal", f"{code}: {name} {counted.get(code, 0)}, ledger {rows[code]}")
    for code, voter in sorted(set(truth.ledger) - acknowledged(attempts) - unresolved(attempts)):
        yield Violation("unequal", f"the like of {voter.hex()} for {code} is in the ledger and was never acknowledged")


def fell(_attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """A published number never falls, but while the ledger lacks likes; then it is what it was before, or more."""
    read = [
        likes
        for read_s, likes in truth.published
        if not any(began_s <= read_s <= ended_s for began_s, ended_s in truth.lacking)
    ]
    for before, after in pairwise(read):
        for code, likes in before.items():
            if after.get(code, 0) < likes:
                yield Violation("fell", f"{code} fell from {likes} to {after.get(code, 0)}")


def exceeded(attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """A published number never exceeds the likes that had been asked for by then."""
    first: dict[Identity, float] = {}
    for attempt in attempts:
        for code in attempt.codes:
            first.setdefault((code, attempt.voter), attempt.asked_s)
    for read_s, likes in truth.published:
        asked = Counter(code for (code, _voter), asked_s in first.items() if asked_s <= read_s)
        for code, number in likes.items():
            if number > asked[code]:
                yield Violation("exceeded", f"{code} was published with {number} likes, {asked[code]} were asked for")


def receipts(attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """The same like has the same receipt every time, the campaign's own."""
    for attempt in attempts:
        for code, (status, receipt) in attempt.results.items():
            if status in LIKED and receipt != truth.receipt_of(code, attempt.voter):
                yield Violation("receipt", f"attempt {attempt.number}: {receipt} for {code}")


def quota(_attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """No voter has more likes in the ledger than a window allows."""
    for voter, likes in Counter(voter for _code, voter in set(truth.ledger)).items():
        if likes > truth.quota:
            yield Violation("quota", f"{voter.hex()} has {likes} likes in a window of {truth.quota}")


def sealed(attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """Nothing asked for after the close had returned is counted."""
    if truth.sealed_s is None:
        return
    for attempt in attempts:
        late = attempt.asked_s > truth.sealed_s
        if late and any(status == "counted" for status, _receipt in attempt.results.values()):
            yield Violation("sealed", f"attempt {attempt.number} was counted after the close")


def undurable(attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """No 200 for a like that was asked and answered while nothing could be made durable."""
    for attempt in attempts:
        for began_s, ended_s in truth.undurable:
            inside = began_s <= attempt.asked_s and attempt.heard_s <= ended_s
            if inside and acknowledged([attempt]):
                yield Violation("undurable", f"attempt {attempt.number} was acknowledged while nothing was durable")


def recorded(_attempts: Sequence[Attempt], truth: Truth) -> Iterator[Violation]:
    """The public record holds the receipt of every like in the ledger, and nothing else."""
    if truth.record is None:
        return
    found, wanted = (
        Counter(truth.record),
        Counter((code, truth.receipt_of(code, voter)) for code, voter in truth.ledger),
    )
    for what, receipts_of in (("lacks", wanted - found), ("has too much of", found - wanted)):
        for code, receipt in receipts_of:
            yield Violation("record", f"the record {what} {receipt} for {code}")


RULES = (lost, double, invented, unequal, fell, exceeded, receipts, quota, sealed, undurable, recorded)
