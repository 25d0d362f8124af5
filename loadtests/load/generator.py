"""Runs the users for the planned time on one core, and gathers rates and response times."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

# isort: off
from loadtests.load.users import READ_WEIGHTS, READS, Load, Reader, StreamReader, Voter  # first: it lets gevent patch
import gevent

# isort: on
from locust import User
from locust.env import Environment
from locust.stats import StatsEntry

from loadtests.load.journal import Journal, Target
from loadtests.load.options import Options
from loadtests.load.plan import Plan
from loadtests.load.verdict import Watch

FINISH_S_MAX = 30  # what is on the wire when the time is over may still be answered


@dataclass(frozen=True)
class Kind:
    """One kind of request: how many, how fast, and how long answers took."""

    requests: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Figures:
    """What the load reached."""

    seconds: float
    planned: int
    kinds: dict[str, Kind]
    statuses: dict[str, dict[int, int]]
    done: dict[str, int]
    behind_ms_max: float
    errors: list[str]

    @property
    def reads_per_like(self) -> float:
        """Reads made for each like request made."""
        return self.done.get("reads", 0) / max(1, self.done.get("like requests", 0))


def generate(options: Options, target: Target, tokens: list[str], journal: Journal) -> Figures:
    """Load the target as planned; returns once everything that was sent is answered or given up."""
    plan = Plan(
        options.seconds,
        options.likes_per_second,
        options.shape,
        len(tokens),
        target.quota,
        target.candidates,
        options.seed,
    )
    # A stream of chance of its own, since the order in which readers run is not repeatable.
    chance = random.Random(f"{options.seed} readers")
    load = Load(
        target=target,
        journal=journal,
        watch=Watch(journal.fell),
        tokens=tokens,
        ballots=plan.ballots(),
        reads_per_like=options.reads_per_like,
        chance=chance.random,
        choose_read=lambda: chance.choices(READS, READ_WEIGHTS)[0],
    )
    environment = _environment(options, load)
    seconds, errors = _run(environment, options, load)
    return _figures(environment, load, plan.count, seconds, errors)


def _environment(options: Options, load: Load) -> Environment:
    voters = max(1, options.users // 4)
    Voter.load = Reader.load = StreamReader.load = load
    Voter.host, Reader.host = load.target.vote_url, load.target.results_url
    Voter.fixed_count, Reader.fixed_count = voters, max(1, options.users - voters)
    StreamReader.fixed_count = options.streams
    classes: list[type[User]] = [Voter, Reader, StreamReader]
    return Environment(user_classes=[each for each in classes if each.fixed_count], stop_timeout=FINISH_S_MAX)


def _run(environment: Environment, options: Options, load: Load) -> tuple[float, list[str]]:
    runner = environment.create_local_runner()
    users = sum(kind.fixed_count for kind in environment.user_classes)
    load.started_s = time.monotonic()
    runner.start(users, spawn_rate=users)
    try:
        gevent.sleep(options.seconds)
    finally:
        # Also if the run is interrupted: users must not outlive the journal they write.
        seconds = time.monotonic() - load.started_s
        load.stop()
        runner.quit()
    errors = [f"{found['count']} × {found['msg']}\n{found['traceback']}" for found in runner.exceptions.values()]
    return seconds, errors


def _figures(environment: Environment, load: Load, planned: int, seconds: float, errors: list[str]) -> Figures:
    entries = {entry.name: entry for entry in environment.stats.entries.values()}
    statuses: dict[str, dict[int, int]] = {}
    for (name, status), count in sorted(load.statuses.items()):
        statuses.setdefault(name, {})[status] = count
    return Figures(
        seconds=seconds,
        planned=planned,
        kinds={name: _kind(entries[name], seconds) for name in ("like", *READS, "stream") if name in entries},
        statuses=statuses,
        done=dict(load.done),
        behind_ms_max=load.behind_s_max * 1000,
        errors=errors,
    )


def _kind(entry: StatsEntry, seconds: float) -> Kind:
    p50, p95, p99 = (entry.get_response_time_percentile(share) for share in (0.50, 0.95, 0.99))
    return Kind(entry.num_requests, entry.num_requests / seconds, p50, p95, p99, entry.max_response_time)
