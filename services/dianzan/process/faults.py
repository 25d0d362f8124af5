"""Named points at which a test of failures ends this very process or one step of it; otherwise nothing is armed.

`DIANZAN_FAULTS=flush.before_commit:kill@3` sends SIGKILL to the process when it comes to that point for the third time.
With `raise` in the place of `kill` it raises FaultRaised there, for a test that is itself the process.
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

_armed: dict[str, tuple[str, int]] = {}  # point -> what happens there, and the hits left until it does


class FaultsError(DianzanError):
    """DIANZAN_FAULTS names no point, or is not written as it must be."""


class FaultRaised(Exception):
    """What a point armed with `raise` raises. No service expects it: its task ends, and the process with it."""


def hit(point: str) -> None:
    """Pass a point; nothing happens unless it is armed."""
    if not _armed:
        return
    _pass(point)


def arm(spec: str) -> None:
    """Arm the points of `point:kill@n, …`, `@n` being the first hit where it is left out. Raises FaultsError."""
    _armed.clear()
    for part in filter(None, (part.strip() for part in spec.split(","))):
        found = re.fullmatch(r"([a-z._]+):(kill|raise)(?:@([1-9][0-9]*))?", part)
        if found is None or found[1] not in POINTS:
            points = ", ".join(POINTS)
            raise FaultsError(f"DIANZAN_FAULTS: {part!r} is not point:kill@n or point:raise@n; points are {points}.")
        _armed[found[1]] = found[2], int(found[3] or 1)


def _pass(point: str) -> None:
    if point not in _armed:
        return
    action, left = _armed.pop(point)
    if left > 1:
        _armed[point] = action, left - 1
    elif action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        raise FaultRaised(point)
