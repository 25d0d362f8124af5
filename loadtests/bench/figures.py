"""The figures: what each is called, what it should reach, what it aims at, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Figure:
    """`reach` and `aim` are None if a figure is only stated; `less` says that smaller is better."""

    key: str
    name: str
    unit: str
    reach: float | None = None
    aim: float | None = None
    less: bool = False

    def met(self, value: float, wanted: float) -> bool:
        """Whether a value is as good as is wanted."""
        return value <= wanted if self.less else value >= wanted


FIGURES: Final = (
    Figure("1", "likes, one a request / raw ASGI hello", "ratio", 0.60, 0.95),
    Figure("2", "likes / naive service, same durability", "ratio", 8, 12),
    Figure("3", "likes / nginx + Lua, same function and durability", "ratio", 0.95, 1.4),
    Figure("4", "p99 of a like at 70% of its rate", "ms", 15, 8, less=True),
    Figure("5", "likes/s of one API core, 10 a request", "1/s", 80_000, 150_000),
    Figure("6a", "like_v1 on one store core, one like a voter", "1/s", 200_000, 400_000),
    Figure("6b", "like_v1 on one store core, 10 likes a voter", "1/s", 600_000, 1_500_000),
    Figure("7a", "store memory a like, 5 a voter and window", "B", 3.5, 2.5, less=True),
    Figure("7b", "store memory a like, one a voter and window", "B", 12, 10, less=True),
    Figure("8", "worker, stream to committed in Postgres", "1/s", 100_000, 200_000),
    Figure("9", "like to visible in the results, p99 at 5,000/s", "s", 1.5, 0.7, less=True),
    Figure("10", "results read / raw ASGI hello", "ratio", 0.7, 0.95),
    Figure("11", "event readers on one core, an update a second", "readers", 5_000, 20_000),
    Figure("12a", "like_v1 rate, large window / 1 million likes", "ratio", 0.85),
    Figure("12b", "bytes a like, large window / 1 million likes", "ratio", 1.15, less=True),
    Figure("13", "two API processes / one", "ratio"),
    Figure("14a", "like_v1 on 2 primaries / 1, on the cores there are", "ratio"),
    Figure("14b", "like_v1 on 3 primaries / 1, on the cores there are", "ratio"),
    Figure("hello", "ceiling: raw ASGI hello", "1/s"),
    Figure("naive", "peer: naive FastAPI service", "1/s"),
    Figure("nginx", "peer: nginx + Lua", "1/s"),
    Figure("like", "likes, one a request", "1/s"),
    Figure("incr", "ceiling: pipelined INCR, fsync always", "1/s"),
    Figure("copy", "ceiling: COPY of ledger rows, no index", "1/s"),
)
BY_KEY: Final = {figure.key: figure for figure in FIGURES}
PLACE: Final = {figure.key: place for place, figure in enumerate(FIGURES)}


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of this run, round by round; without rounds it was not measured, and `note` says why.

    `wrong`: because a count or an answer was.
    """

    key: str
    rounds: list[float]
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    wrong: bool = False

    @property
    def figure(self) -> Figure:
        """What it is a measurement of."""
        return BY_KEY[self.key]

    @property
    def median(self) -> float:
        """The middle round."""
        return median(self.rounds)

    @property
    def verdict(self) -> str:
        """`met` or `short` of what it should reach; `aim met`; `stated` if nothing is wanted; `skipped`; `WRONG`."""
        if not self.rounds:
            return "WRONG" if self.wrong else "skipped"
        if self.figure.reach is None:
            return "stated"
        if not self.figure.met(self.median, self.figure.reach):
            return "short"
        return "aim met" if self.figure.aim is not None and self.figure.met(self.median, self.figure.aim) else "met"


def ratios(key: str, ours: list[float], theirs: list[float], note: str = "") -> Measured:
    """Round by round, since neighbouring rounds share the machine's mood; `note` says why there are none."""
    return Measured(key, [mine / other for mine, other in zip(ours, theirs, strict=True)] if theirs else [], note)
