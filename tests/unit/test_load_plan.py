"""The load test's plan: repeatable, in time, within the quota, and skewed as a campaign's likes are."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from loadtests.load.plan import Ballot, Plan, Shape

CANDIDATES = tuple(f"c{n:02}" for n in range(1, 65))


def ballots(shape: Shape = "both", seed: int = 7) -> list[Ballot]:
    """4,000 ballots of 1,000 voters in 100 seconds."""
    return list(Plan(100, 40, shape, 1_000, 10, CANDIDATES, seed).ballots())


def test_the_same_seed_gives_the_same_plan() -> None:
    assert ballots(seed=1) == ballots(seed=1) != ballots(seed=2)


@pytest.mark.parametrize("shape", ["curve", "burst", "both"])
def test_ballots_come_in_order_and_fill_the_time(shape: Shape) -> None:
    due = [ballot.due_s for ballot in ballots(shape)]
    assert len(due) == 4_000
    assert all(earlier <= later for earlier, later in pairwise(due))
    assert 0 <= due[0] < 5
    assert 95 < due[-1] <= 100


@pytest.mark.parametrize(
    ("shape", "from_s", "to_s", "least", "most"),
    [
        ("curve", 100 * 20 / 24, 100 * 21 / 24, 0.18, 0.22),
        ("burst", 40, 50, 0.65, 0.72),
        ("both", 0, 50, 0.48, 0.52),
        ("both", 70, 75, 0.32, 0.37),
    ],
)
def test_the_peak_holds_its_share(shape: Shape, from_s: float, to_s: float, least: float, most: float) -> None:
    share = sum(from_s <= ballot.due_s < to_s for ballot in ballots(shape)) / 4_000
    assert least < share < most


def test_a_ballot_names_distinct_candidates_within_the_quota() -> None:
    sizes = Counter(len(ballot.candidates) for ballot in ballots())
    assert sizes.keys() == set(range(1, 11))
    assert all(len(set(ballot.candidates)) == len(ballot.candidates) for ballot in ballots())


def test_few_candidates_draw_most_likes() -> None:
    likes = Counter(code for ballot in ballots() for code in ballot.candidates)
    drawn = [number for _code, number in likes.most_common()]
    assert sum(drawn[:6]) > sum(drawn[32:])
    assert drawn[0] > 10 * drawn[-1]


def test_retries_double_taps_and_returning_voters_have_their_share() -> None:
    planned = ballots()
    manners = Counter(ballot.manner for ballot in planned)
    assert 300 < manners["retry"] < 500
    assert 130 < manners["double_tap"] < 270
    assert max(ballot.voter for ballot in planned) == 999
