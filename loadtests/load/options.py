"""The options of a load run."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.load.plan import Shape

JOURNAL = Path(__file__).parents[1] / "results" / "journal.jsonl"
QUOTA = 10


@dataclass(frozen=True)
class Options:
    """What was asked for, with the defaults filled in."""

    seconds: float
    likes_per_second: float
    reads_per_like: float
    voters: int
    users: int
    streams: int
    shape: Shape
    seed: int
    vote_url: str | None
    results_url: str | None
    campaign: str | None
    data: Path | None
    journal: Path
    verdict_only: bool
    kill_worker: bool
    drain_seconds: float


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; exits with 2 and a sentence where it does not fit together."""
    parser = _parser()
    values = vars(parser.parse_args(arguments))
    addresses = (values["vote_url"], values["results_url"], values["campaign"])
    if any(addresses) and not all(addresses):
        parser.error("give --vote-url, --results-url and --campaign together, or none of them")
    if values["seed"] is None:
        values["seed"] = secrets.randbelow(2**32)
    if values["voters"] is None:
        values["voters"] = max(1, round(values["seconds"] * values["likes_per_second"]))
    return Options(**values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m loadtests.load", description="Load with a verdict; exit 1 where it differs."
    )
    add = parser.add_argument
    add("--seconds", type=_positive, default=60, help="length of the load (60)")
    # 20 like requests a second want 2,000 reads a second, about what two cores give to system and generator together.
    add("--likes-per-second", type=_positive, default=20, help="like requests a second, on average (20)")
    add("--reads-per-like", type=_not_negative, default=100, help="reads wanted for each like request (100)")
    add("--voters", type=int, default=None, help="voter tokens to mint (as many as like requests)")
    add("--users", type=int, default=32, help="concurrent users: a quarter votes, the rest reads (32)")
    add("--streams", type=int, default=3, help="readers of the event stream, beside the users (3)")
    add(
        "--shape", choices=("curve", "burst", "both"), default="both", help="a day, a minute on air, or one after other"
    )
    add("--seed", type=int, default=None, help="repeat the plan of an earlier run (random; printed)")
    add("--vote-url", help="load this vote API instead of a system of its own")
    add("--results-url", help="its results API")
    add("--campaign", help="its campaign; nobody else may vote in it meanwhile")
    add("--data", type=Path, help="its data folder; else DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL")
    add("--journal", type=Path, default=JOURNAL, help="file that every answer is written to")
    add("--verdict-only", action="store_true", help="no load: judge the journal of the last run again")
    add("--kill-worker", action="store_true", help="run a second tally worker, killed with -9 again and again")
    add("--drain-seconds", type=_positive, default=60, help="longest wait for the ledger to catch up (60)")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return number


def _not_negative(text: str) -> float:
    return 0.0 if float(text) == 0 else _positive(text)
