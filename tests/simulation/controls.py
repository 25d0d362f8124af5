"""Controls: systems that are broken on purpose, one step of the protocol each, and must be found out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tests.simulation.checks import failures
from tests.simulation.world import World, simulate

SEEDS_MAX: Final = 400  # a control that so many histories do not show is not seen at all

CONTROLS: Final = {
    "remove-before-commit": "entries leave the stream before their likes are committed",
    "no-wait": "likes are answered before a replica holds them",
    "no-touch": "a batch of duplicates writes nothing, so that WAIT has nothing to wait for",
    "unconfirmed-reads": "entries are flushed that no replica holds",
    "counts-by-rows-read": "the counts grow by the rows read, not by those inserted",
    "no-unique-key": "the ledger takes the same like twice",
    "everysec": "the store answers before its disk holds a like, and crashes",
    "keeps-nothing": "the ledger comes back older, and the store has kept nothing of what it lacks",
    "marks-expire": "marks expire inside their window",
}

REPLICATED: Final = frozenset({"no-wait", "no-touch", "unconfirmed-reads"})  # show with replicas only


def caught(control: str, *, first: int = 0) -> tuple[int, str] | None:
    """The first seed whose history shows the control, and what it shows; None where none of SEEDS_MAX does.

    The same plan with nothing broken must break no promise.
    """
    for seed in range(first, first + SEEDS_MAX):
        found = failures(broken(seed, [control]))
        if found and not failures(simulate(seed, replicated=control in REPLICATED)):
            return seed, found[0]
    return None


def broken(seed: int, controls: Collection[str]) -> World:
    """The history of a seed with these steps broken."""
    return simulate(seed, broken=controls, replicated=bool(REPLICATED & set(controls)))
