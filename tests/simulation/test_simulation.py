"""A hundred histories break no promise, each can be had again by its seed, and a broken system is found out.

`make simulate` lives through 2,000, and finds out every system that is broken on purpose.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.checks import failures
from tests.simulation.controls import caught
from tests.simulation.patches import places
from tests.simulation.world import simulate

ROOT = Path(__file__).parents[2]


def run(*arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)


def test_100_histories_break_no_promise() -> None:
    broken = {seed: found for seed in range(100) if (found := failures(simulate(seed)))}
    assert not broken


def test_a_seed_gives_the_same_history_again_and_another_seed_another() -> None:
    digests = [simulate(seed).digest for seed in range(20)]
    assert [simulate(seed).digest for seed in range(20)] == digests
    assert len(set(digests)) == len(digests)


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    for seed in (7, 8):
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


def test_a_name_that_production_has_renamed_stops_the_simulation() -> None:
    with pytest.raises(LookupError, match=r"tally_worker\.comparison has no SETTLES_S"):
        places({"tally_worker.comparison": ["SETTLE_S", "SETTLES_S"]})


def test_no_module_of_a_history_reads_the_real_machine_unnoticed() -> None:
    """In a process of its own, which has loaded nothing except what a history runs."""
    script = "import tests.simulation.world; from tests.simulation.patches import unreplaced; print(*unreplaced())"
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [
        "dianzan.domain.limits.REPLICA_WAIT_MS",  # where the others import them from
        "dianzan.domain.limits.STORE_TIMEOUT_S",
        "dianzan.domain.windows.now_ms",
        "dianzan.domain.windows.time",
        "dianzan.ledger.address.os",  # looks for the files that a real address names
        "dianzan.process.faults.os",  # kills a real process at a named point; no history arms one
        "dianzan.process.logs.time",  # of the handler, which a history does not configure
        "dianzan.process.metrics",
        "dianzan.process.settings.os",  # whose variables no history reads
        "dianzan.roster.workbook.time",  # a type
        "dianzan.store.nodes.STORE_TIMEOUT_S",  # of real connections
        "dianzan.store.nodes.os",  # as of the ledger's address
    ]
