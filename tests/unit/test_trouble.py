"""A trouble that lasts: how often it is told, and that its end is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from dianzan.process import logs, trouble
from dianzan.process.trouble import Trouble

Told = tuple[str, int]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[tuple[float, str]]], list[Told]]:
    """What is logged of reasons at seconds, an empty one where the trouble is not there."""

    def logged(seen: list[tuple[float, str]]) -> list[Told]:
        lasting = Trouble(logs.get(__name__), "down", over="up", server="a:1")
        with capture_logs() as lines:
            for now_s, reason in seen:
                monkeypatch.setattr(trouble, "time", SimpleNamespace(monotonic=lambda now_s=now_s: now_s))
                if reason:
                    lasting.lasts(reason)
                else:
                    lasting.is_over()
        assert all(line["server"] == "a:1" for line in lines)
        return [(line.get("reason", line["event"]), line.get("for_s", line.get("lasted_s"))) for line in lines]

    return logged


def test_what_lasts_is_told_at_once_and_every_minute(told: Callable[..., list[Told]]) -> None:
    assert told([(s / 10, "away") for s in range(1_300)]) == [("away", 0), ("away", 60), ("away", 120)]


def test_another_reason_is_told_at_once_and_another_number_is_not(told: Callable[..., list[Told]]) -> None:
    assert told([(0, "86% used"), (1, "87% used"), (2, "away"), (3, "86% used"), (4, "away")]) == [
        ("86% used", 0),
        ("away", 2),
    ]


def test_the_end_is_told_once_after_a_quiet_while(told: Callable[..., list[Told]]) -> None:
    assert told([(0, ""), (1, "away"), (2, ""), (4, "away"), (8, ""), (9, ""), (20, ""), (30, "away")]) == [
        ("away", 0),
        ("up", 3),
        ("away", 0),
    ]


def test_reasons_that_never_repeat_are_told_as_one_and_fill_no_memory(told: Callable[..., list[Told]]) -> None:
    reasons = ["".join(three) for three in product("abcdefgh", repeat=3)]  # 512

    assert len(told([(0, reason) for reason in reasons])) == trouble.KINDS_MAX + 1
