"""Named points at which a test of failures kills this very process; outside such tests nothing is armed.

`DIANZAN_FAULTS=flush.before_commit:kill@3` sends SIGKILL to the process when it comes to that point for the third time.
Armed by the composition roots alone, never by an import.
"""

from __future__ import annotations

import os
import re
import signal
from typing import Final

from dianzan.domain.errors import DianzanError

# Point -> where in the life of a like, or of a campaign, it stands.
POINTS: Final = {
    "batch.before_send": "a vote API is about to send a batch",
    "batch.after_send": "the batch is with the store; no reply has been read",
    "batch.before_answer": "the store has answered; no voter has",
    "flush.before_insert": "a worker has read entries",
    "flush.before_commit": "the likes are inserted and counted, not committed",
    "flush.after_commit": "the likes are committed, the entries still in the stream",
    "flush.after_removal": "the entries are removed",
    "close.before_commit": "every gate is closed; the ledger does not know",
    "close.after_commit": "the ledger knows; the document is not published",
    "seal.drained": "the streams are empty",
    "seal.before_commit": "the tally is written, not committed",
    "seal.after_commit": "the tally is committed; the document is not published",
    "restore.cleared": "what the lost shards still held is gone",
    "restore.written": "marks and counts are written; no gate is open",
}

_armed: dict[str, int] = {}  # point -> hits left until the kill


class FaultsError(DianzanError):
    """DIANZAN_FAULTS names no point, or is not written as it must be."""


def hit(point: str) -> None:
    """Pass a point; nothing happens unless it is armed."""
    if not _armed:
        return
    _pass(point)


def arm(spec: str) -> None:
    """Arm the points of `point:kill@n, …`, `@n` being the first hit where it is left out. Raises FaultsError."""
    _armed.clear()
    for part in filter(None, (part.strip() for part in spec.split(","))):
        found = re.fullmatch(r"([a-z._]+):kill(?:@([1-9][0-9]*))?", part)
        if found is None or found[1] not in POINTS:
            raise FaultsError(f"DIANZAN_FAULTS: {part!r} is not point:kill@n; points are {', '.join(POINTS)}.")
        _armed[found[1]] = int(found[2] or 1)


def _pass(point: str) -> None:
    left = _armed.get(point)
    if left is None:
        return
    _armed[point] = left - 1
    if left <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
