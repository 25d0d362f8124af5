"""Runs a load and its verdict: `python -m loadtests.load`; exit code 1 if anything differs."""

from __future__ import annotations

# isort: off
from loadtests.load.generator import Figures, generate  # first: it lets gevent patch

# isort: on
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx

from loadtests.checks import Verdict
from loadtests.load import journal, report, system
from loadtests.load.chaos import killing_workers
from loadtests.load.gathering import gather
from loadtests.load.journal import Journal, Target
from loadtests.load.options import QUOTA, Options, parse
from loadtests.load.verdict import judge
from loadtests.system import SystemFailed


def main() -> int:
    """Load, wait, judge."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # so that a system of our own is stopped too
    try:
        options = parse()
        holds = _verdict(options).holds if options.verdict_only else _load(options)
    except (SystemFailed, httpx.HTTPError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if holds else 1


def _load(options: Options) -> bool:
    print(f"seed {options.seed}, {options.seconds:g} s, {options.likes_per_second:g} like requests a second on average")
    with tempfile.TemporaryDirectory(prefix="dianzan-load-") as folder, _target(options, Path(folder)) as target:
        figures, kills = _generate(options, target, Path(folder))
        report.show_figures(options, figures, kills)
        report.show_errors(figures.errors)
        verdict = _verdict(options)
    report.keep(options, figures, verdict, kills)
    return verdict.holds and not figures.errors


def _generate(options: Options, target: Target, folder: Path) -> tuple[Figures, int | None]:
    tokens = system.tokens(target, options.voters)
    with Journal(options.journal) as written:
        written.head(target, system.baseline(target))
        killing = killing_workers(target, folder / "worker.log", options.seed) if options.kill_worker else nullcontext()
        with killing as killer:
            figures = generate(options, target, tokens, written)
    return figures, killer.kills if killer else None


def _verdict(options: Options) -> Verdict:
    evidence = gather(journal.read(options.journal), options.drain_seconds)
    verdict = judge(evidence)
    report.show_verdict(verdict, evidence)
    return verdict


@contextmanager
def _target(options: Options, folder: Path) -> Iterator[Target]:
    if options.vote_url and options.results_url and options.campaign:
        data = str(options.data.absolute()) if options.data else None
        yield system.target_of(options.vote_url, options.results_url, options.campaign, data)
        return
    with system.own_system(folder, QUOTA, options.voters) as target:
        yield target


if __name__ == "__main__":
    sys.exit(main())
