"""A command whose output cannot be written says that, and blames no store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.system import System

COMMANDS = (["campaign", "list"], ["record", "demo"], ["recount", "demo"])


def run(system: System, command: list[str], output: int) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DIANZAN_DATA": str(system.data), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "dianzan.cli", *command],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_is_named(system: System, command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(system, command, full.fileno())

    assert done.returncode == 1
    assert done.stderr == "The output cannot be written whole: No space left on device.\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone_is_no_error_of_a_store(system: System, command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(system, command, writing)
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (1, "")
