"""Calls of `like_v1` packed beforehand, as a vote API packs them, each with likes of voters who have never liked."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hiredis import pack_command

from dianzan.domain import wire
from dianzan.domain.campaign import Document
from dianzan.domain.limits import LIKES_PER_CALL_MAX
from dianzan.domain.shard import Shard
from dianzan.domain.voters import VOTER_BYTES, Voter, VoterClass
from dianzan.domain.windows import now_ms
from dianzan.store import keys

_SENT = b"0000000000000"  # where the sender's clock will stand, 13 digits until the year 2286
_KEPT = 4  # bytes of a voter's hash that name the shard; those after it are random


@dataclass(frozen=True, slots=True)
class Call:
    """One call for a shard except the sender's clock, and how many likes it holds."""

    shard: int
    head: bytes
    tail: bytes
    likes: int

    def stamped(self, sent: bytes) -> bytes:
        """The call as it is sent at a moment."""
        return self.head + sent + self.tail


def stamp() -> bytes:
    """This moment as the function reads it."""
    return str(now_ms()).encode()


def packed(document: Document, likes: int, *, per_voter: int) -> Iterator[Call]:
    """Full calls, shard after shard, until they hold at least so many likes."""
    voters = LIKES_PER_CALL_MAX // per_voter
    tails, done = _tails(document, per_voter), 0
    while done < likes:
        for shard in range(document.rules.shards):
            yield _call(document, shard, _ballots(document, shard, voters, tails), voters * per_voter)
            done += voters * per_voter


def _tails(document: Document, per_voter: int) -> list[bytes]:
    """What follows a voter's hash in a ballot; every candidate is liked as often as another."""
    count = len(document.candidates)
    nobody = Voter(bytes(VOTER_BYTES), VoterClass.device, 0)
    chosen = [[(first + more) % count + 1 for more in range(per_voter)] for first in range(count)]
    return [wire.pack_ballot(nobody, 0, indexes, document.width)[VOTER_BYTES:] for indexes in chosen]


def _ballots(document: Document, shard: int, voters: int, tails: Sequence[bytes]) -> bytes:
    shards, size = document.rules.shards, VOTER_BYTES - _KEPT
    number = int.from_bytes(os.urandom(3), "big") * shards + shard
    prefix, rest, kinds = struct.pack(">I", number), os.urandom(size * voters), len(tails)
    first = rest[0]
    return b"".join([prefix + rest[n * size : n * size + size] + tails[(first + n) % kinds] for n in range(voters)])


def _call(document: Document, shard: int, ballots: bytes, likes: int) -> Call:
    campaign, window = document.rules.id, document.rules.window_at(now_ms())
    names = [
        keys.gate(Shard(campaign, shard)),
        keys.counts(Shard(campaign, shard)),
        keys.stream(Shard(campaign, shard)),
    ]
    names.append(keys.marks_prefix(Shard(campaign, shard), window.day))
    bounds = (document.version, window.day, window.start_ms, window.end_ms, _SENT)
    command: bytes = pack_command(("FCALL", "like_v1", len(names), *names, *bounds, os.urandom(8), ballots))  # type: ignore[arg-type]
    head, _sent, tail = command.partition(b"$13\r\n" + _SENT)
    return Call(shard, head + b"$13\r\n", tail, likes)
