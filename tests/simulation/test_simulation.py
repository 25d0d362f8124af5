"""Hundreds of histories break no promise, each can be had again by its seed, and broken systems are found out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from dianzan.domain import wire
from dianzan.domain.shard import Shard
from dianzan.store import keys
from tests.simulation.checks import failures
from tests.simulation.controls import CONTROLS, caught
from tests.simulation.functions import like_v1
from tests.simulation.loop import SimLoop
from tests.simulation.plan import CAMPAIGN, EVENING_MS, draw
from tests.simulation.store_server import Server
from tests.simulation.world import simulate
from tests.support.casting import Ballot, Model, pack, voter

ROOT = Path(__file__).parents[2]


def run(*arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_300_histories_break_no_promise() -> None:
    broken = {seed: found for seed in range(300) if (found := failures(simulate(seed)))}
    assert not broken


@pytest.mark.parametrize("control", CONTROLS)
def test_a_broken_system_is_found_out(control: str) -> None:
    assert caught(control) is not None


def test_a_seed_gives_the_same_history_again_and_another_seed_another() -> None:
    digests = [simulate(seed).digest for seed in range(20)]
    assert [simulate(seed).digest for seed in range(20)] == digests
    assert len(set(digests)) == len(digests)


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    for seed in range(7, 11):
        one, other = (run("--trace", str(seed), hash_seed=hash_seed) for hash_seed in (1, 2))
        assert one.stdout == other.stdout
        assert simulate(seed).digest in one.stdout


def test_a_failing_seed_is_told_with_the_command_that_shows_it() -> None:
    found = caught("no-unique-key")
    assert found is not None
    seed, failure = found

    told = run("--first", str(seed), "--seeds", "1", "--jobs", "1", "--broken", "no-unique-key")
    assert told.returncode == 1
    assert f"python -m tests.simulation --trace {seed} --broken no-unique-key\n  {failure}" in told.stdout

    shown = run("--trace", str(seed), "--broken", "no-unique-key")
    assert shown.returncode == 1
    assert f"BROKEN: {failure}" in shown.stdout


def test_the_simulated_function_decides_like_the_model() -> None:
    """The model is what the real function is compared with in test_like_model.py."""
    rng = Random(1)
    for _ in range(200):
        plan = draw(rng)
        server, model = Server("s", SimLoop(rng, epoch_ms=EVENING_MS), rng), Model(plan.quota)
        for records in plan.records():
            server.preload(records)
        for _ in range(6):
            ballots: list[Ballot] = [
                (voter(rng.randrange(4)), [rng.randint(1, 6) for _ in range(rng.randint(1, 5))])
                for _ in range(rng.randint(1, 5))
            ]
            assert decided(server, ballots) == model.cast(ballots)
        counts = server.data.get(keys.counts(Shard(CAMPAIGN, 0)).encode(), {})
        assert {int(candidate): int(likes) for candidate, likes in counts.items()} == model.counts


def decided(server: Server, ballots: list[Ballot]) -> list[wire.Outcome]:
    """What `like_v1` answers, for one shard whoever the voter is."""
    window = window_around(server)
    names = [keys.gate(Shard(CAMPAIGN, 0)), keys.counts(Shard(CAMPAIGN, 0)), keys.stream(Shard(CAMPAIGN, 0))]
    prefix = keys.marks_prefix(Shard(CAMPAIGN, 0), window[0])
    arguments = [1, *window, server.now_ms()]
    packed = [*(b"%d" % number for number in arguments), bytes(8), pack(ballots, 1)]
    reply = like_v1(server, [name.encode() for name in [*names, prefix]], packed)
    return wire.unpack_outcomes(reply, [len(liked) for _voter, liked in ballots])


def window_around(server: Server) -> tuple[int, int, int]:
    """A window around the server's clock."""
    day_ms = 86_400_000
    return 20_513, server.now_ms() - day_ms // 2, server.now_ms() + day_ms // 2
