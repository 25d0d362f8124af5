"""The journal knows of every attempt before its bytes leave, even if this very process is killed then."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.faults.journal import Heard, Journal


def lines(path: Path) -> list[list[object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_an_attempt_is_synced_before_it_may_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    synced: list[list[list[object]]] = []
    fsync = os.fsync

    def noting(fd: int) -> None:
        fsync(fd)
        synced.append(lines(path))

    monkeypatch.setattr(os, "fsync", noting)
    journal = Journal(path)
    attempt = await journal.ask(b"\x01", ["c01", "c02"], 1)

    assert synced[-1] == [["ask", 0, "01", ["c01", "c02"], 1]]
    assert attempt.asked_s <= attempt.sent_s
    journal.close()


async def test_attempts_that_wait_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    journal = Journal(tmp_path / "journal")
    attempts = await asyncio.gather(*(journal.ask(bytes([n]), ["c01"], 0) for n in range(50)))

    assert len(calls) < 5
    assert sorted(attempt.number for attempt in attempts) == list(range(50))
    journal.close()


async def test_what_was_heard_stands_behind_what_was_asked(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    attempt = await journal.ask(b"\x01", ["c01"], 0)
    journal.hear(attempt, Heard.ok, results={"c01": ("counted", "R1")})
    journal.close()

    assert attempt.heard is Heard.ok
    assert attempt.heard_s >= attempt.sent_s
    assert lines(tmp_path / "journal")[1:] == [["heard", 0, "ok", "", {"c01": ["counted", "R1"]}]]
