"""A rehearsal's verdict names every count that is not what was sent; its report says so and draws the days."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from loadtests.checks import DETAILS_MAX, Verdict, same
from loadtests.rehearsal.figures import FILE, Day, Figures, RehearsalError
from loadtests.rehearsal.plan import Expected
from loadtests.rehearsal.report import Outcome, bytes_per_like, markdown, picture
from loadtests.rehearsal.verdict import judge
from loadtests.shapes import DAYS, HOURS

from dianzan.ledger.records import Seal, Tally
from dianzan.life.recount import Recount

Windows = dict[tuple[date, int], int]

FIRST = date(2026, 11, 26)
WINDOWS = [FIRST + timedelta(days=n) for n in range(3)]
SENT = Expected({(0, 1): 3, (2, 1): 2, (2, 7): 4}, people=6)
TOTALS = {1: 5, 7: 4}
COUNTED = Recount(TOTALS, TOTALS, TOTALS, TOTALS, people={0: 6, 1: 5, 7: 4}, waiting=0)
BY_WINDOW = {(WINDOWS[0], 1): 3, (WINDOWS[2], 1): 2, (WINDOWS[2], 7): 4}
SEALED = Seal(datetime(2026, 12, 1, tzinfo=UTC), 9, 6, {1: (1, Tally(5, 5)), 7: (2, Tally(4, 4)), 9: (3, Tally(0, 0))})


def compared(counted: Recount = COUNTED, windows: Windows = BY_WINDOW, sealed: Seal = SEALED) -> Verdict:
    return judge(SENT, counted, windows, sealed, WINDOWS)


def named(verdict: Verdict) -> list[str]:
    """Every difference under the name of its check."""
    return [f"{check.name}: {line}" for check, lines in verdict.differences() for line in lines or [str(check.found)]]


def test_equal_counts_have_no_difference_and_a_candidate_that_nobody_liked_is_none() -> None:
    assert compared().holds
    assert [check.found for check in compared().checks] == [9] * 7 + [6] * 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"store": {1: 6, 7: 4}}, "likes sent = counters of the store: candidate 1: expected 5, found 6"),
        ({"counts": {1: 5}}, "likes sent = counts in PostgreSQL: candidate 7: expected 4, found 0"),
        ({"ledger": {1: 5, 7: 3}}, "likes sent = rows of the ledger: candidate 7: expected 4, found 3"),
        (
            {"identities": {1: 5, 7: 4, 8: 1}},
            "likes sent = distinct likes in the ledger: candidate 8: expected 0, found 1",
        ),
        ({"people": {0: 7}}, "voters sent = distinct voters in the ledger: 7"),
    ],
)
def test_a_count_that_differs_is_named(changes: dict[str, Any], said: str) -> None:
    assert named(compared(counted=replace(COUNTED, **changes))) == [said]


def test_a_like_in_the_wrong_day_is_named_though_every_total_agrees() -> None:
    moved = {(WINDOWS[0], 1): 2, (WINDOWS[1], 1): 1, (WINDOWS[2], 1): 2, (WINDOWS[2], 7): 4}

    assert named(compared(windows=moved)) == [
        "likes sent = rows of the ledger, day by day: candidate 1 on 2026-11-26: expected 3, found 2",
        "likes sent = rows of the ledger, day by day: candidate 1 on 2026-11-27: expected 0, found 1",
    ]


def test_a_sealed_tally_that_differs_is_named() -> None:
    sealed = replace(SEALED, likes=10, people=5, tallies={1: (1, Tally(5, 5)), 7: (2, Tally(5, 5))})

    assert named(compared(sealed=sealed)) == [
        "likes sent = sealed tally: candidate 7: expected 4, found 5",
        "likes sent = sum of the sealed tally: 10",
        "voters sent = people of the sealed tally: 5",
    ]


# ---- the report -----------------------------------------------------------------------------------------------------

DAY = Day(likes=450_000, seconds=9.0, store=12_000_000, backlog=1_000_000, held=2_000_000)
FIGURES = Figures(
    likes=9_000_000,
    seed=2022,
    repeated=750_000,
    seconds=180.0,
    waited_s=45.0,
    empty=1_000_000,
    peak=13_000_000,
    peak_rss=20_000_000,
    cpu_s={"sender": 9.0, "store": 27.0},
    days=[DAY] * len(DAYS),
)
WHERE = {
    "command": "python -m loadtests.rehearsal",
    "ended": "2026-11-26 08:30 UTC",
    "commit": "abc1234",
    "machine": "a machine, 2 cores",
    "versions": "Valkey 9.1",
}
EQUAL = Outcome(compared(), 6, rows=700_000_000, indexes=500_000_000, judged_s=75.0, where=WHERE)


def test_the_report_has_the_figures_with_where_and_by_which_command() -> None:
    text = markdown(FIGURES, EQUAL, "days.svg")

    assert "## Equal, to the like" in text
    assert "| sending | 0:03:00: 50,000 likes/s, and 750,000 repeated likes |" in text
    assert "| of it waiting for worker and PostgreSQL | 25% |" in text
    assert "| CPU, µs a like | sender 1.0, store 3.0 |" in text
    assert "| ledger on disk | 1.2 GB: 78 of rows + 56 of indexes, bytes a like |" in text
    assert "| 20 | 450,000 | 9 | 50,000 | 12.0 | 1.0 | 5.0 |" in text
    assert "| ended | 2026-11-26 08:30 UTC |" in text
    assert "| commit | abc1234 |\n| machine | a machine, 2 cores |\n| versions | Valkey 9.1 |" in text
    assert "| likes sent = sealed tally | 9 | 9 |" in text
    assert "![Likes, rate and memory by day](days.svg)" in text
    assert "$ python -m loadtests.rehearsal\n" in text


def test_bytes_of_a_like_are_those_above_an_empty_store_without_what_waits() -> None:
    assert bytes_per_like(FIGURES, DAY) == 5.0


def test_the_report_of_a_difference_says_so_and_names_the_first_ones() -> None:
    many = dict.fromkeys(range(DETAILS_MAX + 5), 1)
    different = replace(EQUAL, verdict=Verdict([same("likes sent = store", many, {}, "candidate {}".format)]))

    text = markdown(FIGURES, different, "days.svg")

    assert "## DIFFERENT" in text
    assert "- likes sent = store: candidate 0: expected 1, found 0\n" in text
    assert "- likes sent = store: and 5 more" in text


def test_the_picture_is_an_svg_with_a_bar_for_every_hour_and_every_day() -> None:
    drawn = ElementTree.fromstring(picture(FIGURES))  # noqa: S314 our own text

    bars = [each for each in drawn if each.tag.endswith("rect")]
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(bars) == 1 + len(DAYS) * len(HOURS) + 2 * len(DAYS)
    assert all(0 <= float(bar.get("height", "-1")) <= float(drawn.get("height", "0")) for bar in bars)


def test_a_rehearsal_without_a_finished_day_can_be_drawn_and_told() -> None:
    early = Figures(likes=5, seed=1)

    ElementTree.fromstring(picture(early))  # noqa: S314
    assert "## The days" in markdown(early, EQUAL, "days.svg")


# ---- the figures ----------------------------------------------------------------------------------------------------


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert Figures.read(tmp_path) is None

    FIGURES.write(tmp_path)

    assert Figures.read(tmp_path) == FIGURES


def test_figures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"likes": "many"}')

    with pytest.raises(RehearsalError, match=r"rehearsal\.json cannot be read: begin again with --fresh"):
        Figures.read(tmp_path)
