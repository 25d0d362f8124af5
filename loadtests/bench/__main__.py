"""Measures us beside ceilings and peers: `python -m loadtests.bench`; exit code 1 if a count is wrong."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dianzan.domain.errors import DianzanError
from loadtests.bench import bed, cores, report
from loadtests.bench.bed import Bed
from loadtests.bench.errors import BenchError, Skipped
from loadtests.bench.figures import PLACE, Measured
from loadtests.bench.groups import (
    ceilings,
    fixed_rate,
    function,
    likes,
    primaries,
    readers,
    reads,
    two_processes,
    visible,
    worker,
)
from loadtests.bench.options import Options, Scale, parse

BUSY_LOAD = 0.5  # of the last minute: half a core


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that are measured together, on stores of their own; `pinned` gives each part its core."""

    figures: tuple[str, ...]
    measure: Callable[[Bed, Scale], list[Measured]]
    pinned: bool = True


GROUPS: Final = (
    Group(("1", "2", "3", "5", "hello", "naive", "nginx", "like"), likes.measure),
    Group(("4",), fixed_rate.measure),
    Group(("incr", "copy"), ceilings.measure),
    Group(("6a", "6b"), function.rate),
    Group(("7a", "7b"), function.memory),
    Group(("8",), worker.measure),
    Group(("9",), visible.measure, pinned=False),
    Group(("10",), reads.measure),
    Group(("11",), readers.measure),
    Group(("12a", "12b"), function.growth),
    Group(("13",), two_processes.measure),
    Group(("14a", "14b"), primaries.measure, pinned=False),
)


def main(arguments: list[str] | None = None) -> int:
    """Measure group after group, print the table, keep the line."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # so that what was started is stopped too
    limits = {"open_files": cores.allow_open_files(), "load_before": round(os.getloadavg()[0], 2)}
    if limits["load_before"] > BUSY_LOAD:
        print(f"Others use this machine (load {limits['load_before']}): every figure will be worse than it is.")
    started = time.monotonic()
    try:
        measured = [each for group in _asked(options) for each in _measure(group, options)]
    except (BenchError, DianzanError) as error:
        print(error, file=sys.stderr)
        return 1
    measured.sort(key=lambda each: PLACE[each.key])
    report.show(measured)
    if any(each.wrong for each in measured):
        print("\nA count or an answer was wrong, so nothing is kept.")
        return 1
    report.keep(options, cores.share_out(), limits, measured, time.monotonic() - started)
    return 0


def _asked(options: Options) -> Iterator[Group]:
    known = {key for group in GROUPS for key in group.figures}
    unknown = {key for key in options.only if not _named(key, known)}
    if unknown:
        raise BenchError(f"No such figure: {', '.join(sorted(unknown))}. There are {', '.join(sorted(known))}.")
    for group in GROUPS:
        if not options.only or any(_named(key, group.figures) for key in options.only):
            yield group


def _named(asked: str, keys: set[str] | tuple[str, ...]) -> bool:
    """Whether a figure is among these; `6` stands for 6a and 6b."""
    return any(key in (asked, f"{asked}a", f"{asked}b") for key in keys)


def _measure(group: Group, options: Options) -> list[Measured]:
    shared = cores.share_out() if group.pinned else None
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="dianzan-bench-") as folder, bed.opened(Path(folder), shared) as found:
            measured = group.measure(found, options.scale)
    except (Skipped, BenchError) as reason:
        wrong = isinstance(reason, BenchError)
        measured = [Measured(key, [], str(reason), wrong=wrong) for key in group.figures]
    print(f"measured {', '.join(group.figures)} in {time.monotonic() - started:.0f} s", flush=True)
    return measured


if __name__ == "__main__":
    sys.exit(main())
