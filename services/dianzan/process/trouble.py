"""A trouble that lasts is told when it begins, when its reason changes, every minute, and when it is over."""

from __future__ import annotations

import re
import time
from typing import Any, Final, Literal

import structlog

TELL_AGAIN_S: Final = 60.0
KINDS_MAX: Final = 100  # of reasons told apart; more are one, so that a text which never repeats fills no memory
QUIET_S: Final = 5.0  # without the trouble before it is over: one that comes and goes is told as one

_NUMBER: Final = re.compile(r"\b\d+\b")


def kind(reason: str) -> str:
    """The reason without its numbers: 86% used and 87% used are one trouble, not two."""
    return _NUMBER.sub("", reason)


class Trouble:
    """Whoever tries again ten times a second says so here each time; the log has it once, and again as it changes."""

    def __init__(
        self,
        log: structlog.stdlib.BoundLogger,
        event: str,
        *,
        over: str,
        level: Literal["warning", "error"] = "warning",
        quiet_s: float = QUIET_S,
        **fields: str,
    ) -> None:
        """`event` is told while it lasts, `over` once it has ended; `fields` stand on every line."""
        self._log, self._event, self._over, self._level, self._fields = log, event, over, level, fields
        self._quiet_s = quiet_s
        self._told_s: dict[str, float] = {}  # kind of a reason -> when it was last told
        self._began_s = self._seen_s = 0.0

    def lasts(self, reason: str, **fields: Any) -> None:
        """It is there now; `fields` stand on the line if it is told."""
        now_s = time.monotonic()
        if not self._told_s:
            self._began_s = now_s
        self._seen_s = now_s
        of_kind = kind(reason)
        if of_kind not in self._told_s and len(self._told_s) >= KINDS_MAX:
            of_kind = ""
        told_s = self._told_s.get(of_kind)
        if told_s is None or now_s - told_s >= TELL_AGAIN_S:
            self._told_s[of_kind] = now_s
            tell = getattr(self._log, self._level)
            tell(self._event, **self._fields, **fields, reason=reason, for_s=round(now_s - self._began_s))

    def is_over(self) -> None:
        """It is not there now."""
        if self._told_s and time.monotonic() - self._seen_s >= self._quiet_s:
            self._told_s.clear()
            self._log.info(self._over, **self._fields, lasted_s=round(self._seen_s - self._began_s))
