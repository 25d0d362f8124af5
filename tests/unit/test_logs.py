"""Equal log lines are counted instead of written; lines that differ are all written."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

PROGRAM = """
    import logging, time
    from dianzan.process import logs
    logs.configure("info", "test")
    log, other = logs.get("ours"), logging.getLogger("uvicorn.error")
"""


def written(program: str) -> list[dict[str, Any]]:
    """The log lines of a process that runs a program."""
    code = textwrap.dedent(PROGRAM) + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize("line", ['other.warning("Invalid HTTP request received.")', 'log.warning("odd", shard=3)'])
def test_ten_thousand_equal_lines_are_two_and_a_count(line: str) -> None:
    lines = written(f"for _ in range(10_000): {line}")

    assert len(lines) <= 4
    assert sum(each.get("repeated", 1) for each in lines) == 10_000
    assert "repeated" not in lines[0]


def test_a_count_is_told_within_seconds_though_nothing_more_is_logged() -> None:
    lines = written(
        """
        for _ in range(3): log.warning("odd")
        time.sleep(2.5)
        log.warning("end")
        """
    )

    assert [(line["event"], line.get("repeated")) for line in lines] == [("odd", None), ("odd", 2), ("end", None)]


def test_lines_that_differ_in_a_field_or_an_error_are_all_written() -> None:
    lines = written(
        """
        for shard in range(256): log.warning("shard repaired", shard=shard)
        for number in range(20):
            try: raise ValueError(number)
            except ValueError: other.error("failed", exc_info=True)
        log.info("odd"); log.warning("odd"); other.warning("odd")
        """
    )

    assert len(lines) == 279
    assert not [line for line in lines if "repeated" in line]


def test_a_million_kinds_of_lines_are_not_remembered() -> None:
    lines = written(
        """
        logs.EQUAL_LINES_EVERY_S = 0
        for number in range(20_000): log.info("kind", number=number)
        assert len(logging.getLogger().handlers[0]._equal) <= logs.KINDS_MAX
        """
    )

    assert len(lines) == 20_000
