"""A rehearsal, small: stopped and killed it goes on and is equal to the like; a ledger that lost a row fails it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from loadtests.rehearsal.figures import FILE
from loadtests.rehearsal.run import CAMPAIGN
from loadtests.shapes import DAYS
from loadtests.system import own_environment

from dianzan.domain.limits import MARKS_STAND_DAYS
from dianzan.local.stores import EmbeddedStores, StoreAddresses
from dianzan.store.nodes import open_client
from tests.support.wait import until

LIKES = 60_000
RUN_S_MAX = 120


def command(data: Path, *options: str | Path) -> list[str]:
    return [sys.executable, "-m", "loadtests.rehearsal", "--data", str(data), *map(str, options)]


def rehearse(data: Path, *options: str | Path) -> tuple[int, str]:
    """Exit code and output of `python -m loadtests.rehearsal`."""
    done = subprocess.run(
        command(data, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=own_environment({}),
        timeout=RUN_S_MAX,
        check=False,
    )
    return done.returncode, done.stdout


def figures(data: Path) -> dict[str, Any]:
    """What the rehearsal has written of itself."""
    path = data / FILE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"day": 0}
    return found


async def ended_by(number: signal.Signals, data: Path, *, day: int) -> tuple[int, str]:
    """Start a rehearsal, and send it a signal once a day has begun; its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *command(data, "--likes", str(LIKES)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=own_environment({}),
    )

    async def begun() -> bool:
        assert process.returncode is None
        return bool(figures(data)["day"] >= day)

    try:
        await until(begun, within_s=60, what=f"day {day} has begun")
    finally:
        process.send_signal(number)
        printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


@contextmanager
def stores_of(data: Path) -> Iterator[StoreAddresses]:
    """The stores of a rehearsal that has ended."""
    embedded = EmbeddedStores(data)
    yield embedded.start()
    embedded.stop()


async def marked_windows(redis_url: str) -> int:
    """Windows of which the store keeps marks."""
    client = open_client(redis_url)
    try:
        found = [key.decode() async for key in client.scan_iter(match=f"*{CAMPAIGN}:*:m:*", count=1_000)]
    finally:
        await client.aclose()
    return len({key.split(":m:")[1].split(":")[0] for key in found})


async def lose_a_like(database_url: str) -> None:
    """Delete one row of the ledger."""
    connection = await asyncpg.connect(database_url, ssl=False)
    query = """
        DELETE FROM likes WHERE (campaign, window_day, candidate, voter) IN
            (SELECT campaign, window_day, candidate, voter FROM likes LIMIT 1)
    """
    assert await connection.execute(query) == "DELETE 1"
    await connection.close()


@pytest.mark.timeout(4 * RUN_S_MAX)
async def test_stopped_and_killed_it_goes_on_and_is_equal_and_a_lost_row_is_found(tmp_path: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "report.md"
    code, printed = await ended_by(signal.SIGTERM, data, day=2)
    assert code == 130, printed
    assert f"To go on: python -m loadtests.rehearsal --data {data}" in printed

    code, printed = await ended_by(signal.SIGKILL, data, day=6)  # stores and worker live on
    assert code == -signal.SIGKILL
    assert "left by an earlier run" not in printed, "it had stopped everything in order"
    killed = figures(data)
    assert 6 <= killed["day"] < len(DAYS)
    # As if the last figures had been lost: two days are sent a second time, and must count nothing.
    (data / FILE).write_text(json.dumps(killed | {"day": killed["day"] - 2, "batch": 0}))

    code, printed = rehearse(data, "--report", report)

    assert code == 0, printed
    assert printed.count("left by an earlier run") == 3  # both stores and the worker
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.startswith("  ok  ")]
    assert [line for line in lines if line.endswith(f" {LIKES:,} {LIKES:,}")] == lines[:7]
    assert [line.startswith("ok voters sent = ") for line in lines[7:]] == [True, True]
    assert "no difference" in printed
    assert figures(data)["resumed"] == 2
    days = [day["likes"] for day in figures(data)["days"]]
    assert (len(days), sum(days)) == (len(DAYS), LIKES)
    assert "## Equal, to the like" in report.read_text()
    assert "| ledger on disk | 0" not in report.read_text()
    assert report.with_suffix(".svg").read_text().startswith("<svg")

    with stores_of(data) as found:
        assert await marked_windows(found.redis_url) == MARKS_STAND_DAYS + 1
        await lose_a_like(found.database_url)

    code, printed = rehearse(data, "--report", report)

    assert code == 1, printed
    assert "FAIL likes sent = rows of the ledger, day by day" in printed
    assert "DIFFERENT" in printed
    assert "## DIFFERENT" in report.read_text()
