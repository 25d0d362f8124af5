"""`python -m tests.simulation`: many histories, each from one seed, and the controls that must be found out."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator
from multiprocessing import Pool

from tests.simulation.checks import failures
from tests.simulation.controls import CONTROLS, SEEDS_MAX, broken, caught

SHOWN_MAX = 10  # failing seeds that are told in full
CHUNK = 50


def main() -> int:
    """Run what the arguments ask for; 1 where a history breaks a promise or a control is not found out."""
    options = _options()
    if options.trace is not None:
        return _trace(options.trace, options.broken)
    with Pool(options.jobs, initializer=_prepare) as pool:
        failed = _seeds(pool, options)
        missed = _controls(pool, options.first) if options.controls else 0
    return 1 if failed or missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many histories (2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--controls", action="store_true", help="run the controls too")
    parser.add_argument("--trace", type=int, metavar="SEED", help="show one history, event by event")
    parser.add_argument("--broken", action="append", default=[], choices=[*CONTROLS], help="break a step (a control)")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _prepare() -> None:
    # Histories leave circles behind, but few: looking for them seldom is a tenth faster.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _seeds(pool: Pool, options: argparse.Namespace) -> int:  # type: ignore[valid-type]
    began = time.perf_counter()
    failed = 0
    work = ((seed, tuple(options.broken)) for seed in range(options.first, options.first + options.seeds))
    for seed, found in pool.imap(_one, work, chunksize=CHUNK):  # type: ignore[attr-defined]
        failed += bool(found)
        if found and failed <= SHOWN_MAX:
            switches = "".join(f" --broken {name}" for name in options.broken)
            _say(f"seed {seed} fails; show it: python -m tests.simulation --trace {seed}{switches}")
            for line in found[:SHOWN_MAX]:
                _say(f"  {line}")
    seconds = time.perf_counter() - began
    per_seed_ms = seconds / options.seeds * 1000
    _say(
        f"{options.seeds} histories from seed {options.first}: {failed} broke a promise "
        f"({seconds:.1f} s, {per_seed_ms:.1f} ms a history with {options.jobs} processes)"
    )
    return failed


def _one(work: tuple[int, tuple[str, ...]]) -> tuple[int, list[str]]:
    seed, controls = work
    return seed, failures(broken(seed, controls))


def _controls(pool: Pool, first: int) -> int:  # type: ignore[valid-type]
    missed = 0
    for control, found in pool.imap(_control, [(name, first) for name in CONTROLS]):  # type: ignore[attr-defined]
        if found is None:
            missed += 1
            _say(f"control {control} ({CONTROLS[control]}): NOT found out in {SEEDS_MAX} histories")
        else:
            _say(f"control {control} ({CONTROLS[control]}): found out by seed {found[0]}: {found[1]}")
    return missed


def _control(work: tuple[str, int]) -> tuple[str, tuple[int, str] | None]:
    control, first = work
    return control, caught(control, first=first)


def _trace(seed: int, controls: list[str]) -> int:
    world = broken(seed, controls)
    found = failures(world)
    for line in _events(world.events):
        _say(line)
    _say(str(world.plan))
    for failure in found:
        _say(f"BROKEN: {failure}")
    _say(f"{len(world.events)} events, {world.loop.time():.3f} virtual seconds, history {world.digest}")
    return 1 if found else 0


def _events(events: list[tuple[object, ...]]) -> Iterator[str]:
    for at_s, who, *what in events:
        yield f"{at_s:10.6f}  {who:<8} {' '.join(map(str, what))}"


if __name__ == "__main__":
    sys.exit(main())
