"""What a run may be told, and how much work each figure does."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results" / "bench.jsonl"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done: rounds of some seconds, voters, likes, readers."""

    rounds: int
    seconds: float
    warm_up_s: float
    connections: int
    voters_max: int  # tokens made for one round; more than are used in it
    function_likes: int  # of one round of like_v1
    memory_voters: int
    worker_likes: int  # of one round of the worker
    visible_s: float
    readers: tuple[int, ...]  # steps, until one is too many
    growth: tuple[int, ...]  # likes in a window


FULL = Scale(
    rounds=5,
    seconds=4,
    warm_up_s=2,
    connections=256,
    voters_max=400_000,
    function_likes=500_000,
    memory_voters=1_000_000,
    worker_likes=500_000,
    visible_s=15,
    readers=(1_000, 2_500, 5_000, 10_000, 20_000),
    growth=(1_000_000, 10_000_000),
)
QUICK = Scale(
    rounds=1,
    seconds=1,
    warm_up_s=1,
    connections=64,
    voters_max=100_000,
    function_likes=100_000,
    memory_voters=100_000,
    worker_likes=60_000,
    visible_s=4,
    readers=(200, 1_000),
    growth=(100_000, 300_000),
)


@dataclass(frozen=True, slots=True)
class Options:
    """`only`: figures or groups to measure, none for all."""

    only: frozenset[str]
    quick: bool
    scale: Scale
    results: Path


def parse(arguments: list[str] | None = None) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--only", default="", help="figures by number, separated by commas: 1,2,6,incr")
    parser.add_argument("--quick", action="store_true", help="one short round each, to see that everything works")
    parser.add_argument("--growth", type=int, help="the large window of figure 12, in millions of likes")
    parser.add_argument("--rounds", type=int, help="rounds of each figure, in turn")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that gets one JSON line a run")
    found = parser.parse_args(arguments)
    only = frozenset(part.strip() for part in found.only.split(",") if part.strip())
    return Options(only, found.quick, _scale(found), found.results)


def _scale(found: argparse.Namespace) -> Scale:
    scale = QUICK if found.quick else FULL
    changes: dict[str, object] = {}
    if found.growth:
        changes["growth"] = (scale.growth[0], found.growth * 1_000_000)
    if found.rounds:
        changes["rounds"] = found.rounds
    return replace(scale, **changes)  # type: ignore[arg-type]
