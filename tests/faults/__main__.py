"""Runs the failure tests: `python -m tests.faults --smoke | --full [--seed N] [--only TEXT] [--report FILE]`."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from tests.faults import report
from tests.faults.registry import Scenario
from tests.faults.report import Shown
from tests.faults.run import run_cycle
from tests.faults.scenarios import every
from tests.faults.world import World

CYCLE_S_MAX = 240.0
SHARED_MIN = 12  # scenarios that are worth the start of another world


def main() -> int:
    """0: every scenario held and every control failed; 1: not so; 2: usage."""
    options = _options()
    wanted = [s for s in every.all_of() if options.only.lower() in s.name.lower() and _cycles_of(s, options)]
    if options.list:
        print("\n".join(s.name for s in wanted))
        return 0
    if not wanted:
        print(f"No scenario of this run is named like {options.only!r}: --full --list shows all.", file=sys.stderr)
        return 2
    print(f"seed {options.seed}", flush=True)
    shown = asyncio.run(_run(wanted, options))
    print("\n" + report.table(shown))
    if options.report:
        report.write(options.report, shown, seed=options.seed, mode=_mode(options))
    failed = [each for each in shown if not each.skipped and not each.passed]
    skipped = [each for each in shown if each.skipped]
    for each in skipped:
        print(f"skipped: {each.scenario.name}: {each.skipped}")
    for each in failed:
        print(f"\nFAILED: {each.scenario.name}\n{each.error}")
        print("\n".join(f"  {v.kind}: {v.example}" for outcome in each.outcomes for v in outcome.violations))
        if each.kept is not None:
            print(f"  journals and logs: {each.kept}")
        same = f"--{_mode(options)} --seed {options.seed} --only {shlex.quote(each.scenario.name)}"
        print(f"  again: python -m tests.faults {same}")
    return 1 if failed or (skipped and options.no_skips) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    how_long = parser.add_mutually_exclusive_group(required=False)
    how_long.add_argument("--smoke", action="store_true", help="a cycle or two of each scenario (default)")
    how_long.add_argument("--full", action="store_true", help="many cycles of each")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9), help="repeats the voters of a run")
    parser.add_argument("--only", default="", help="scenarios whose name contains this")
    parser.add_argument("--cycles", type=int, help="cycles of each scenario, instead of its own number")
    parser.add_argument("--jobs", type=int, choices=range(1, 9), default=1, help="worlds that run side by side")
    parser.add_argument("--report", type=Path, help="write the table here, and JSON lines beside it")
    in_ci = bool(os.environ.get("CI"))
    parser.add_argument(
        "--no-skips", action="store_true", default=in_ci, help="what cannot run here is a failure, as always in CI"
    )
    parser.add_argument("--list", action="store_true", help="print the names and end")
    return parser.parse_args()


def _mode(options: argparse.Namespace) -> str:
    return "full" if options.full else "smoke"


def _cycles_of(each: Scenario, options: argparse.Namespace) -> int:
    """How often a scenario is run; 0 in the smoke run where it takes too long for that."""
    if options.full:
        return options.cycles or each.full
    return each.smoke and (options.cycles or each.smoke)


async def _run(wanted: list[Scenario], options: argparse.Namespace) -> list[Shown]:
    shown = {each.name: Shown(each, skipped=each.missing) for each in wanted}
    able = [each for each in wanted if not each.missing]
    worlds = list(_worlds([shown[each.name] for each in able], options.jobs))
    free = asyncio.Semaphore(options.jobs)
    with tempfile.TemporaryDirectory(prefix="dianzan-faults-", ignore_cleanup_errors=True) as folder:
        await asyncio.gather(
            *(_in_world(found, Path(folder) / f"world{number}", free, options) for number, found in enumerate(worlds))
        )
    return list(shown.values())


def _worlds(wanted: list[Shown], jobs: int) -> Iterator[list[Shown]]:
    """Scenarios that run one after another in a world of their own; a world that many want is made for each job."""
    for _maker, group in groupby(wanted, key=lambda each: each.scenario.world):
        found = list(group)
        size = len(found) if len(found) < SHARED_MIN else -(-len(found) // jobs)
        yield from (found[first : first + size] for first in range(0, len(found), size))


async def _in_world(found: list[Shown], folder: Path, free: asyncio.Semaphore, options: argparse.Namespace) -> None:
    async with free:
        try:
            async with found[0].scenario.world(_made(folder)) as world:
                for each in found:
                    await _cycles(each, world, options)
        except Exception:  # noqa: BLE001 the other worlds' scenarios go on
            print(traceback.format_exc(), flush=True)
            for each in [each for each in found if not each.outcomes] or found[-1:]:
                each.error = each.error or "its world did not start or end as it should"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _last_words(world: World) -> str:
    """What every process has logged last; the folder is gone when the run ends."""
    logs = [(process.log.name, process.log.read_text(errors="replace")) for process in world.processes]
    return "\n".join(f"{name}: …{text[-1_000:]}" for name, text in logs)


def _keep(world: World) -> Path:
    """What was journaled and logged, where it outlives the run."""
    kept = Path(tempfile.mkdtemp(prefix="dianzan-faults-failed-"))
    for path in [*world.folder.glob("*.journal"), *world.folder.glob("*.log")]:
        shutil.copy(path, kept)
    return kept


async def _cycles(shown: Shown, world: World, options: argparse.Namespace) -> None:
    each = shown.scenario
    started = time.monotonic()
    for cycle in range(_cycles_of(each, options)):
        rng = random.Random(f"{options.seed} {each.name} {cycle}")
        try:
            async with asyncio.timeout(CYCLE_S_MAX):
                outcome = await run_cycle(world, each.fault, rng, likes=each.likes, **each.campaign)
        except Exception:  # noqa: BLE001 the other scenarios go on
            shown.error = f"cycle {cycle}: {traceback.format_exc()}\n{_last_words(world)}"
            await world.heal()
            break
        shown.outcomes.append(outcome)
        if outcome.violations:
            break
    if not shown.passed:
        shown.kept = _keep(world)
    shown.seconds = time.monotonic() - started
    verdict = "held" if shown.passed and not each.must_fail else "failed, as it must" if shown.passed else "FAILED"
    print(f"{shown.seconds:6.1f} s  {len(shown.outcomes):3} cycles  {verdict}  {each.name}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
