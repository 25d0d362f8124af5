"""Likes as the bytes of a binary COPY, built ballot by ballot without an object a like."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import chain
from operator import itemgetter
from typing import Final

from dianzan.domain.windows import EPOCH
from dianzan.domain.wire import Entry

# The order of the fields in a row: what differs between the likes of a ballot, then between ballots, then entries.
COLUMNS: Final = ("candidate", "voter", "network", "publisher", "voter_class", "campaign", "window_day", "liked_at")
_CANDIDATE: Final = struct.Struct(">hih")
_BALLOT: Final = struct.Struct(">i16siiihih")
_ENTRY: Final = struct.Struct(">ihiiiq")
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no extension
_END: Final = struct.pack(">h", -1)
_PIECE_BYTES: Final = 65_536
_EPOCH_DAYS: Final = 10_957  # Postgres counts days and microseconds from 2000


@dataclass(frozen=True, slots=True)
class New:
    """How many new likes there are of what the counts tell apart: `likes` by candidate, `times` by Unix ms."""

    likes: Counter[int] = field(default_factory=Counter)
    times: Counter[int] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """New likes in all."""
        return sum(self.times.values())


@dataclass(frozen=True, slots=True)
class Rows:
    """Ledger rows of one window, voter after voter: the body of a binary COPY of COLUMNS into `partition`.

    `new` counts them as if none were known; a like that stands in the entries twice is two.
    """

    partition: str
    copy: bytes
    new: New

    async def pieces(self) -> AsyncIterator[bytes]:
        """`copy` in pieces: Postgres reads one whole before it begins on its rows."""
        for start in range(0, len(self.copy), _PIECE_BYTES):
            yield self.copy[start : start + _PIECE_BYTES]


def partition_name(campaign: int, day: date) -> str:
    """The table of one campaign's likes of one window, by its first local date."""
    return f"likes_{campaign}_{day:%Y%m%d}"


def pack(entries: Iterable[Entry], campaign: int) -> list[Rows]:
    """The rows of a campaign's entries, one `Rows` a window."""
    windows: dict[int, list[Entry]] = {}
    for entry in entries:
        if entry.ballots:
            windows.setdefault(entry.window_day, []).append(entry)
    return [_pack_window(day, of_day, campaign) for day, of_day in sorted(windows.items())]


def _pack_window(window_day: int, entries: Sequence[Entry], campaign: int) -> Rows:
    ballots: list[tuple[bytes, tuple[int, ...]]] = []
    times: Counter[int] = Counter()
    for entry in entries:
        liked_at_us = (entry.time_ms - _EPOCH_DAYS * 86_400_000) * 1_000
        end = _ENTRY.pack(2, campaign, 4, window_day - _EPOCH_DAYS, 8, liked_at_us)
        ballots += [
            (_BALLOT.pack(16, b.voter, 4, b.network, 2, b.publisher, 2, b.voter_class) + end, b.candidates)
            for b in entry.ballots
        ]
        times[entry.time_ms] += entry.like_count
    # By voter, as the ledger's index begins: neighbours are written together, and two flushes of the same likes wait
    # for each other at the first one, not crosswise.
    ballots.sort(key=itemgetter(0))
    likes = Counter(chain.from_iterable(map(itemgetter(1), ballots)))
    begin = {candidate: _CANDIDATE.pack(len(COLUMNS), 2, candidate) for candidate in likes}
    parts = [_SIGNATURE]
    for ballot, candidates in ballots:
        for candidate in sorted(candidates) if len(candidates) > 1 else candidates:
            parts += begin[candidate], ballot
    partition = partition_name(campaign, EPOCH + timedelta(days=window_day))
    return Rows(partition, b"".join([*parts, _END]), New(likes, times))
