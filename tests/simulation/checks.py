"""What must be true of every history, from the journal of the voters and the stores at rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.simulation.ledger_server import Identity
from tests.simulation.voters import Attempt

if TYPE_CHECKING:
    from tests.simulation.world import World

DAY_MS = 86_400_000


def failures(world: World) -> list[str]:
    """Every promise that this history has broken, one sentence each."""
    return [*world.failures, *_likes(world), *_counts(world), *_answers(world), *_seal(world)]


def _named(like: Identity) -> str:
    day, candidate, voter = like
    return f"(window {day}, candidate {candidate}, voter {voter.hex()[:6]})"


def _day(world: World, attempt: Attempt) -> int:
    """The window that an answer names by its end."""
    for at_ms in (world.plan.epoch_ms, world.plan.epoch_ms + DAY_MS, world.plan.epoch_ms - DAY_MS):
        window = world.plan.rules.window_at(at_ms)
        if window.resets_at == attempt.resets_at:
            return window.day
    raise AssertionError(f"an answer of another window: {attempt}")


def _acknowledged(world: World) -> Iterator[tuple[Attempt, Identity, str]]:
    for attempt in world.voters.journal:
        if attempt.outcome == "ok":
            day = _day(world, attempt)
            for candidate, status in attempt.statuses.items():
                yield attempt, (day, candidate, attempt.voter), status


def _likes(world: World) -> Iterator[str]:
    """Acknowledged likes are in the ledger; what is there was asked for, is there once, and within the quota."""
    ledger = world.ledger.rows
    counted = {like for _attempt, like, status in _acknowledged(world) if status != "over_quota"}
    for like in sorted(counted - ledger.keys() - world.lost_with_the_store):
        yield f"lost: {_named(like)} was acknowledged and is not in the ledger"
    may_be = {
        (attempt.voter, candidate)
        for attempt in world.voters.journal
        if attempt.outcome != "nothing"
        for candidate in attempt.candidates
        if attempt.statuses.get(candidate) != "over_quota"
    }
    for like in sorted(ledger):
        if (like[2], like[1]) not in may_be:
            yield f"invented: {_named(like)} is in the ledger, and nobody was told that it might be"
    for like in sorted(world.ledger.copies):
        yield f"double: {_named(like)} stands twice in the ledger"
    used = Counter((day, voter) for day, _candidate, voter in ledger)
    for (day, voter), likes in sorted(used.items()):
        if likes > world.plan.quota:
            yield f"over quota: voter {voter.hex()[:6]} has {likes} likes in window {day}"


def _counts(world: World) -> Iterator[str]:
    """At rest the store's counters, the counts and the ledger's rows are equal."""
    store = world.store_counts()
    rows = world.ledger.by_rows()
    counts = world.ledger.by_counts()
    if counts != rows:
        yield f"the counts are {counts}, the ledger's rows {rows}"
    if store != rows:
        yield f"the store counts {store}, the ledger's rows {rows}"


def _answers(world: World) -> Iterator[str]:
    """One like has one receipt, is newly counted once, and once acknowledged is liked for ever."""
    receipts: dict[Identity, str | None] = {}
    news: Counter[Identity] = Counter()
    known_s: dict[Identity, float] = {}
    for attempt, like, status in _acknowledged(world):
        if status != "over_quota":
            known_s[like] = min(known_s.get(like, attempt.ended_s), attempt.ended_s)
            if receipts.setdefault(like, attempt.receipts[like[1]]) != attempt.receipts[like[1]]:
                yield f"{_named(like)} has two receipts"
        news[like] += status == "counted"
    for attempt, like, status in _acknowledged(world):
        if like in world.lost_with_the_store:
            continue
        if news[like] > 1:
            yield f"{_named(like)} was answered `counted` {news[like]} times"
        if status != "already_liked" and attempt.began_s > known_s.get(like, float("inf")):
            yield f"{_named(like)} was acknowledged, and later answered {status}"


def _seal(world: World) -> Iterator[str]:
    """After the seal nothing is accepted, and the published tally is the ledger's."""
    if world.sealed_s is None:
        return
    for attempt in world.voters.journal:
        if attempt.outcome == "ok" and attempt.began_s > world.sealed_s:
            yield f"answered after the seal: {attempt}"
    rows = world.ledger.by_rows()
    tallies = world.ledger.sealed.tallies if world.ledger.sealed else {}
    sealed = {index: tally.likes for index, (_rank, tally) in tallies.items() if tally.likes}
    if sealed != rows:
        yield f"sealed are {sealed}, the ledger's rows {rows}"
    if world.ledger.seals != 1:
        yield f"sealed {world.ledger.seals} times"
