"""A rehearsal's verdict names every count that is not what was sent; its report says so and draws the days."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from loadtests.rehearsal.figures import FILE, Day, Figures, RehearsalError
from loadtests.rehearsal.plan import Expected
from loadtests.rehearsal.report import DIFFERENCES_MAX, Costs, Surroundings, bytes_per_like, markdown, picture
from loadtests.rehearsal.verdict import Verdict, differences
from loadtests.shapes import DAYS, HOURS

from dianzan.ledger.ledger import Seal, Tally
from dianzan.life.recount import Recount

FIRST = date(2026, 11, 26)
WINDOWS = [FIRST + timedelta(days=n) for n in range(3)]
SENT = Expected({(0, 1): 3, (2, 1): 2, (2, 7): 4}, people=6)
TOTALS = {1: 5, 7: 4}
COUNTED = Recount(TOTALS, TOTALS, TOTALS, TOTALS, people={0: 6, 1: 5, 7: 4}, waiting=0)
BY_WINDOW = {(WINDOWS[0], 1): 3, (WINDOWS[2], 1): 2, (WINDOWS[2], 7): 4}
SEALED = Seal(datetime(2026, 12, 1, tzinfo=UTC), 9, 6, {1: (1, Tally(5, 5)), 7: (2, Tally(4, 4)), 9: (3, Tally(0, 0))})


def found(counted: Recount = COUNTED, windows: dict[tuple[date, int], int] = BY_WINDOW, sealed: Seal = SEALED) -> Any:
    return differences(SENT, counted, windows, sealed, WINDOWS)


def test_equal_counts_have_no_difference_and_a_candidate_that_nobody_liked_is_none() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"store": {1: 6, 7: 4}}, "candidate 1: 5 sent, store 6"),
        ({"counts": {1: 5}}, "candidate 7: 4 sent, counts 0"),
        ({"ledger": {1: 5, 7: 3}}, "candidate 7: 4 sent, ledger 3"),
        ({"identities": {1: 5, 7: 4, 8: 1}}, "candidate 8: 0 sent, distinct likes 1"),
        ({"people": {0: 7}}, "voters: 6 sent, ledger 7"),
    ],
)
def test_a_count_that_differs_is_named(changes: dict[str, Any], said: str) -> None:
    assert found(counted=replace(COUNTED, **changes)) == [said]


def test_a_like_in_the_wrong_day_is_named_though_every_total_agrees() -> None:
    moved = {(WINDOWS[0], 1): 2, (WINDOWS[1], 1): 1, (WINDOWS[2], 1): 2, (WINDOWS[2], 7): 4}

    assert found(windows=moved) == [
        "candidate 1 on 2026-11-26: 3 sent, ledger 2",
        "candidate 1 on 2026-11-27: 0 sent, ledger 1",
    ]


def test_a_sealed_tally_that_differs_is_named() -> None:
    sealed = replace(SEALED, people=5, tallies={1: (1, Tally(5, 5)), 7: (2, Tally(5, 5))})

    assert found(sealed=sealed) == ["candidate 7: 4 sent, sealed tally 5", "voters: 6 sent, sealed tally 5"]


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
WHERE = Surroundings(
    "python -m loadtests.rehearsal",
    "abc1234",
    "a machine, 2 cores",
    {"Valkey": "9.1"},
    datetime(2026, 11, 26, 8, 30, tzinfo=UTC),
)
COSTS = Costs(rows=700_000_000, indexes=500_000_000, judged_s=75.0)


def test_the_report_has_the_figures_with_where_and_by_which_command() -> None:
    text = markdown(FIGURES, Verdict(9_000_000, COUNTED, SEALED, []), COSTS, WHERE, "days.svg")

    assert "## Equal, to the like" in text
    assert "| sending | 0:03:00: 50,000 likes/s, and 750,000 repeated likes |" in text
    assert "| of it waiting for worker and PostgreSQL | 25% |" in text
    assert "| CPU, µs a like | sender 1.0, store 3.0 |" in text
    assert "| ledger on disk | 1.2 GB: 78 of rows + 56 of indexes, bytes a like |" in text
    assert "| 20 | 450,000 | 9 | 50,000 | 12.0 | 1.0 | 5.0 |" in text
    assert "| ended | 2026-11-26 08:30 UTC |" in text
    assert "abc1234" in text
    assert "a machine, 2 cores" in text
    assert "Valkey 9.1" in text
    assert "![Likes, rate and memory by day](days.svg)" in text
    assert "$ python -m loadtests.rehearsal\n" in text


def test_bytes_of_a_like_are_those_above_an_empty_store_without_what_waits() -> None:
    assert bytes_per_like(FIGURES, DAY) == 5.0


def test_the_report_of_a_difference_says_so_and_names_the_first_ones() -> None:
    named = [f"candidate {n}: 1 sent, store 0" for n in range(DIFFERENCES_MAX + 5)]

    text = markdown(FIGURES, Verdict(9_000_000, COUNTED, SEALED, named), COSTS, WHERE, "days.svg")

    assert "## DIFFERENT" in text
    assert "- candidate 0: 1 sent, store 0\n" in text
    assert "- … and 5 more" in text
    assert f"candidate {DIFFERENCES_MAX}:" not in text


def test_the_picture_is_an_svg_with_a_bar_for_every_hour_and_every_day() -> None:
    drawn = ElementTree.fromstring(picture(FIGURES))  # noqa: S314 our own text

    bars = [each for each in drawn if each.tag.endswith("rect")]
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(bars) == 1 + len(DAYS) * len(HOURS) + 2 * len(DAYS)
    assert all(0 <= float(bar.get("height", "-1")) <= float(drawn.get("height", "0")) for bar in bars)


def test_a_rehearsal_without_a_finished_day_can_be_drawn_and_told() -> None:
    early = Figures(likes=5, seed=1)

    ElementTree.fromstring(picture(early))  # noqa: S314
    assert "## The days" in markdown(early, Verdict(5, COUNTED, SEALED, []), COSTS, WHERE, "days.svg")


# ---- the figures ----------------------------------------------------------------------------------------------------


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert Figures.read(tmp_path) is None

    FIGURES.write(tmp_path)

    assert Figures.read(tmp_path) == FIGURES


def test_figures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"likes": "many"}')

    with pytest.raises(RehearsalError, match=r"rehearsal\.json cannot be read: begin anew with --fresh"):
        Figures.read(tmp_path)
