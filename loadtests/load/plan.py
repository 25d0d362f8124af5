"""The plan of a run: when each ballot is due, whose it is and whom it likes; the same seed gives the same plan."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from loadtests.shapes import BURST, HOURS

Shape = Literal["curve", "burst", "both"]
Manner = Literal["once", "retry", "double_tap"]

RETRIES = 0.10  # ballots sent again, the very same request, after their answer
DOUBLE_TAPS = 0.05  # ballots sent twice at the same moment
RETURNING = 0.25  # ballots of a voter who has already voted; with them quotas run out
RECENT_VOTERS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Ballot:
    """One like request: due `due_s` after the start, by the voter of that number, in one of three manners."""

    number: int
    due_s: float
    voter: int
    candidates: tuple[str, ...]
    manner: Manner


@dataclass(frozen=True, slots=True)
class Plan:
    """`rate` ballots a second on average over `seconds`, by `voters` voters, 1 to `quota` candidates each."""

    seconds: float
    rate: float
    shape: Shape
    voters: int
    quota: int
    candidates: Sequence[str]
    seed: int

    @property
    def count(self) -> int:
        """Ballots in the plan."""
        return max(1, round(self.seconds * self.rate))

    def ballots(self) -> Iterator[Ballot]:
        """All ballots, in the order they are due."""
        chance = random.Random(self.seed)
        moments = Moments(weights_of(self.shape), self.seconds)
        favour = Favour(self.candidates, chance)
        # A voter likes few more often than many: one candidate twice as often as two.
        sizes = range(1, min(self.quota, len(self.candidates)) + 1)
        size_weights = [1 / size for size in sizes]
        newest = 0
        for number in range(self.count):
            voter = newest if newest < self.voters else chance.randrange(self.voters)
            if newest and chance.random() < RETURNING:
                voter = chance.randrange(max(0, newest - RECENT_VOTERS_MAX), newest)
            elif newest < self.voters:
                newest += 1
            size = chance.choices(sizes, size_weights)[0]
            due_s = moments.at((number + chance.random()) / self.count)
            yield Ballot(number, due_s, voter, favour.choose(size), _manner(chance.random()))


class Moments:
    """Turns a share of all ballots into the moment at which that share has been cast."""

    def __init__(self, weights: Sequence[float], seconds: float) -> None:
        total = sum(weights)
        self._step_s = seconds / len(weights)
        self._shares = [0.0, *accumulate(weight / total for weight in weights)]

    def at(self, share: float) -> float:
        """Seconds from the start."""
        step = min(bisect_right(self._shares, share), len(self._shares) - 1) - 1
        low, high = self._shares[step], self._shares[step + 1]
        return (step + (share - low) / (high - low)) * self._step_s


class Favour:
    """Few candidates draw most likes: the n-th in favour as often as 1/n; who is in favour depends on the seed."""

    def __init__(self, candidates: Sequence[str], chance: random.Random) -> None:
        self._chance = chance
        self._order = list(candidates)
        chance.shuffle(self._order)
        self._cumulative = list(accumulate(1 / rank for rank in range(1, len(candidates) + 1)))

    def choose(self, size: int) -> tuple[str, ...]:
        """Distinct candidates for one ballot."""
        chosen: dict[str, None] = {}
        while len(chosen) < size:
            for code in self._chance.choices(self._order, cum_weights=self._cumulative, k=size):
                if len(chosen) < size:
                    chosen[code] = None
        return tuple(chosen)


def weights_of(shape: Shape) -> list[float]:
    """Relative rates of equally long steps. `both`: the day in the first half, the burst in the second."""
    if shape == "curve":
        return [float(weight) for weight in HOURS]
    if shape == "burst":
        return [float(weight) for weight in BURST]
    steps = len(HOURS) * len(BURST)
    day = [weight / sum(HOURS) for weight in HOURS for _ in range(steps // len(HOURS))]
    burst = [weight / sum(BURST) for weight in BURST for _ in range(steps // len(BURST))]
    return [weight * len(HOURS) for weight in day] + [weight * len(BURST) for weight in burst]


def _manner(chance: float) -> Manner:
    if chance < RETRIES:
        return "retry"
    return "double_tap" if chance < RETRIES + DOUBLE_TAPS else "once"
