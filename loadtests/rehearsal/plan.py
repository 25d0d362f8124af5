"""The ballots of a rehearsed campaign: a pure function of likes, seed, day and batch, and what they must add up to.

A batch is complete in itself, so sending it again, at any time before its day's marks are swept, changes nothing.
"""

from __future__ import annotations

import random
import struct
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import shake_128
from itertools import accumulate
from typing import Final

from dianzan.domain import wire
from dianzan.domain.limits import LIKES_PER_BATCH_MAX, LIKES_PER_CALL_MAX
from dianzan.domain.voters import VOTER_BYTES, Voter, VoterClass
from loadtests.shapes import DAYS

CANDIDATES: Final = 66  # of 2019; 64 to 67 in other years
QUOTA: Final = 10
SHARDS: Final = 8  # a power of two: a voter's shard is then three bits of its hash

LIKES_PER_BATCH: Final = 12_288  # with the repeats about 13,500: one pipeline
LIKES_PER_VISIT: Final = 5  # who likes more comes twice
REPEATED_EVERY: Final = 10  # the first visit of every tenth voter is sent again, the very same ballot
NEW_VOTERS: Final = 4  # one in so many voters of a day is new, the others come back: about four days each
SLATES: Final = 65_536  # what a voter likes in a day is drawn from so many lists
_NETWORK, _PUBLISHER = 7, 0

assert LIKES_PER_BATCH * (1 + 2 / REPEATED_EVERY) <= LIKES_PER_BATCH_MAX


@dataclass(frozen=True, slots=True)
class Packed:
    """One call's ballots of a shard as the store reads them, `sizes` likes each; `again`: all were sent before."""

    shard: int
    ballots: bytes
    sizes: list[int]
    again: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be counted in the end: likes per (day, candidate index), and distinct voters of the campaign."""

    likes: dict[tuple[int, int], int]
    people: int

    @property
    def totals(self) -> dict[int, int]:
        """Likes per candidate index."""
        found: Counter[int] = Counter()
        for (_day, candidate), likes in self.likes.items():
            found[candidate] += likes
        return dict(found)


@dataclass(frozen=True)
class Plan:
    """`likes` distinct likes over the days of the campaign."""

    likes: int
    seed: int

    # ---- how many, and when ---------------------------------------------------------------------------------------

    def likes_before(self, day: int) -> int:
        """Likes of the days before `day` (0 to len(DAYS)); shares are rounded so that the days add up exactly."""
        return self.likes * sum(DAYS[:day]) // sum(DAYS)

    def likes_of(self, day: int) -> int:
        """Likes of one day."""
        return self.likes_before(day + 1) - self.likes_before(day)

    def batches(self, day: int) -> int:
        """Batches of one day; all are full but the last."""
        return -(-self.likes_of(day) // LIKES_PER_BATCH)

    def likes_in(self, day: int, batch: int) -> int:
        """Likes of one batch, repeats not counted."""
        return min(LIKES_PER_BATCH, self.likes_of(day) - batch * LIKES_PER_BATCH)

    def likes_until(self, day: int, batch: int) -> int:
        """Likes of all batches before this one, from the campaign's opening on."""
        return self.likes_before(day) + min(batch * LIKES_PER_BATCH, self.likes_of(day))

    @property
    def voters_a_day(self) -> int:
        """About how many voters the greatest day has."""
        mean = QUOTA / sum(1 / size for size in range(1, QUOTA + 1))
        return max(1, round(max(self.likes_of(day) for day in range(len(DAYS))) / mean))

    # ---- who likes whom -------------------------------------------------------------------------------------------

    @cached_property
    def _slates(self) -> list[bytes]:
        """Lists of 1 to QUOTA distinct candidate indexes, each as often as the next.

        A voter likes few more often than many: one candidate twice as often as two. Of the candidates the n-th in
        favour is drawn as often as 1/n; who is in favour depends on the seed.
        """
        chance = random.Random(self.seed)
        sizes = list(accumulate(1 / size for size in range(1, QUOTA + 1)))
        favour = list(accumulate(1 / rank for rank in range(1, CANDIDATES + 1)))
        order = sorted(range(1, CANDIDATES + 1), key=lambda _candidate: chance.random())
        slates = []
        for _ in range(SLATES):
            size = 1 + bisect_left(sizes, chance.random() * sizes[-1])
            chosen: dict[int, None] = {}
            while len(chosen) < size:
                chosen[order[bisect_left(favour, chance.random() * favour[-1])]] = None
            slates.append(bytes(chosen))
        return slates

    @cached_property
    def _sizes(self) -> list[int]:
        return [len(slate) for slate in self._slates]

    def slates(self, day: int, batch: int, shard: int) -> list[bytes]:
        """What the voters of one shard in one batch like, one after another; together exactly the shard's share."""
        likes = self.likes_in(day, batch)
        share = likes // SHARDS + (shard < likes % SHARDS)
        drawn = shake_128(f"{self.seed} likes {day} {batch} {shard}".encode()).digest(2 * share)
        numbers = struct.unpack(f">{share}H", drawn)
        sizes = self._sizes
        ends = list(accumulate([sizes[number] for number in numbers]))
        count = bisect_left(ends, share) + 1 if share else 0
        every = self._slates
        slates = [every[number] for number in numbers[:count]]
        if slates and (surplus := ends[count - 1] - share):
            slates[-1] = slates[-1][:-surplus]
        return slates

    def voters(self, day: int, batch: int, shard: int, count: int) -> list[bytes]:
        """The first `count` voters of a batch, hashes that all belong to the shard."""
        drawn = shake_128(f"{self.seed} voters {self._block(day, batch)} {shard}".encode()).digest(VOTER_BYTES * count)
        hashes = bytearray(drawn)
        hashes[3::VOTER_BYTES] = hashes[3::VOTER_BYTES].translate(_OF_SHARD[shard])
        return [bytes(hashes[at : at + VOTER_BYTES]) for at in range(0, len(hashes), VOTER_BYTES)]

    def _block(self, day: int, batch: int) -> int:
        """The number of the block of voters that a batch draws on; days overlap, batches of one day never do."""
        return sum(self.batches(before) for before in range(day)) // NEW_VOTERS + batch

    # ---- the ballots, and what they must add up to ------------------------------------------------------------------

    def packed(self, day: int, batch: int) -> Iterator[Packed]:
        """The calls of one batch: each shard's first visits, second visits, and repeats."""
        for shard in range(SHARDS):
            slates = self.slates(day, batch, shard)
            voters = self.voters(day, batch, shard, len(slates))
            firsts = [slate[:LIKES_PER_VISIT] for slate in slates]
            second = [
                (voter, slate) for voter, slate in zip(voters, slates, strict=True) if len(slate) > LIKES_PER_VISIT
            ]
            voters += [voter for voter, _slate in second]
            visits = firsts + [slate[LIKES_PER_VISIT:] for _voter, slate in second]
            yield from _calls(shard, voters, visits, again=False)
            repeated = slice(0, len(firsts), REPEATED_EVERY)
            yield from _calls(shard, voters[repeated], visits[repeated], again=True)

    def expected(self) -> Expected:
        """Go through the whole plan without sending it; 0.1 microseconds a like."""
        likes: dict[tuple[int, int], int] = {}
        seen: dict[tuple[int, int], int] = {}  # (block, shard) -> voters of it that came
        for day in range(len(DAYS)):
            counted: Counter[int] = Counter()
            for batch in range(self.batches(day)):
                block = self._block(day, batch)
                for shard in range(SHARDS):
                    slates = self.slates(day, batch, shard)
                    counted.update(b"".join(slates))
                    seen[block, shard] = max(seen.get((block, shard), 0), len(slates))
            likes |= {(day, candidate): count for candidate, count in counted.items()}
        return Expected(likes, sum(seen.values()))


# Per shard, what the low byte of the number that names a voter's shard becomes.
_OF_SHARD: Final = [bytes(value - value % SHARDS + shard for value in range(256)) for shard in range(SHARDS)]
# What stands between a ballot's voter and its candidates, by their number.
_HEADS: Final = [b""] + [
    wire.pack_ballot(Voter(bytes(VOTER_BYTES), VoterClass.device, _PUBLISHER), _NETWORK, [1] * size, 1)[
        VOTER_BYTES:-size
    ]
    for size in range(1, LIKES_PER_VISIT + 1)
]


def _calls(shard: int, voters: Sequence[bytes], visits: Sequence[bytes], *, again: bool) -> Iterator[Packed]:
    """Ballots split into calls of at most LIKES_PER_CALL_MAX likes."""
    sizes = [len(visit) for visit in visits]
    ballots = [voter + _HEADS[len(visit)] + visit for voter, visit in zip(voters, visits, strict=True)]
    ends = list(accumulate(sizes))
    start = likes = 0
    while start < len(sizes):
        stop = bisect_right(ends, likes + LIKES_PER_CALL_MAX)
        yield Packed(shard, b"".join(ballots[start:stop]), sizes[start:stop], again)
        start, likes = stop, ends[stop - 1]
