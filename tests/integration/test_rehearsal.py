"""A rehearsal, small: killed in the middle it goes on and is equal to the like; a ledger that lost a row fails it."""

from __future__ import annotations

import asyncio
import json
import os
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

from dianzan.domain.limits import MARKS_KEPT_DAYS
from dianzan.local.stores import EmbeddedStores, StoreAddresses
from dianzan.store.nodes import open_client
from tests.support.wait import until

LIKES = 60_000
RUN_S_MAX = 120


def command(data: Path, *options: str | Path) -> list[str]:
    return [sys.executable, "-m", "loadtests.rehearsal", "--data", str(data), *map(str, options)]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DIANZAN_")} | {"NO_COLOR": "1"}


def rehearse(data: Path, *options: str | Path) -> tuple[int, str]:
    """Exit code and output of `python -m loadtests.rehearsal`."""
    done = subprocess.run(
        command(data, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        timeout=RUN_S_MAX,
        check=False,
    )
    return done.returncode, done.stdout


def figures(data: Path) -> dict[str, Any]:
    """What the rehearsal has written of itself."""
    path = data / FILE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"day": 0}
    return found


async def kill_in_the_middle(data: Path, *, day: int) -> None:
    """Start a rehearsal and end it with SIGKILL, so that stores and worker live on, once that day has begun."""
    process = await started(data)
    try:
        await until_day(data, day)
    finally:
        process.kill()
        await process.communicate()


async def started(data: Path) -> asyncio.subprocess.Process:
    """A rehearsal that runs."""
    return await asyncio.create_subprocess_exec(
        *command(data, "--likes", str(LIKES)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    )


async def until_day(data: Path, day: int) -> None:
    """Wait until a rehearsal has come to a day."""

    async def begun() -> bool:
        return bool(figures(data)["day"] >= day)

    await until(begun, within_s=60, what=f"day {day} has begun")


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


@pytest.mark.timeout(4 * RUN_S_MAX)
async def test_killed_in_the_middle_it_goes_on_and_is_equal_and_a_lost_row_is_found(tmp_path: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "report.md"
    await kill_in_the_middle(data, day=4)
    killed = figures(data)
    assert 4 <= killed["day"] < len(DAYS)
    # As if the last figures had been lost: two days are sent a second time, and must count nothing.
    (data / FILE).write_text(json.dumps(killed | {"day": killed["day"] - 2, "batch": 0}))

    code, printed = rehearse(data, "--report", report)

    assert code == 0, printed
    assert printed.count("left by an earlier run") == 3  # both stores and the worker
    assert printed.count(f"{LIKES:,}  ") == 6
    assert "\nequal\n" in printed
    assert figures(data)["resumed"] == 1
    days = [day["likes"] for day in figures(data)["days"]]
    assert (len(days), sum(days)) == (len(DAYS), LIKES)
    assert "## Equal, to the like" in report.read_text()
    assert report.with_suffix(".svg").read_text().startswith("<svg")

    with stores_of(data) as found:
        assert await marked_windows(found.redis_url) == MARKS_KEPT_DAYS + 1
        await lose_a_like(found.database_url)

    code, printed = rehearse(data, "--report", report)

    assert code == 1, printed
    assert "DIFFERENT" in printed
    assert "sent, ledger" in printed
    assert "## DIFFERENT" in report.read_text()


async def lose_a_like(database_url: str) -> None:
    """Delete one row of the ledger."""
    connection = await asyncpg.connect(database_url, ssl=False)
    query = """
        DELETE FROM likes WHERE (campaign, window_day, candidate, voter) IN
            (SELECT campaign, window_day, candidate, voter FROM likes LIMIT 1)
    """
    assert await connection.execute(query) == "DELETE 1"
    await connection.close()


async def test_a_row_lost_before_the_end_is_found_too(tmp_path: Path) -> None:
    await kill_in_the_middle(tmp_path, day=10)
    with stores_of(tmp_path) as found:
        await lose_a_like(found.database_url)

    code, printed = rehearse(tmp_path)

    assert code == 1, printed
    assert "Not sealed: the four counts of rehearsal differ." in printed


async def test_stopped_by_a_signal_it_stops_everything_and_goes_on(tmp_path: Path) -> None:
    process = await started(tmp_path)
    await until_day(tmp_path, 2)

    process.send_signal(signal.SIGTERM)
    printed, _ = await process.communicate()

    assert process.returncode == 130, printed
    assert f"To go on: python -m loadtests.rehearsal --data {tmp_path}" in printed.decode()
    code, said = rehearse(tmp_path)
    assert code == 0, said
    assert "left by an earlier run" not in said


def test_another_plan_is_not_mixed_with_the_one_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"likes": 1000, "seed": 5}')

    code, printed = rehearse(tmp_path, "--likes", "2000")

    assert code == 1
    assert "holds a rehearsal of 1,000 likes with seed 5: go on without --likes and --seed" in printed


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    for options in ([], ["--fresh"]):
        code, printed = rehearse(tmp_path, *options)
        assert code == 1
        assert "holds something else (thesis.txt, …): choose another folder" in printed
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


async def test_fresh_begins_anew_and_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    await kill_in_the_middle(tmp_path, day=2)
    (tmp_path / "notes.txt").write_text("mine")

    code, printed = rehearse(tmp_path, "--fresh", "--likes", "1000", "--seed", "9")

    assert code == 0, printed
    assert figures(tmp_path)["resumed"] == 0
    assert (figures(tmp_path)["likes"], figures(tmp_path)["seed"]) == (1_000, 9)
    assert (tmp_path / "notes.txt").read_text() == "mine"
