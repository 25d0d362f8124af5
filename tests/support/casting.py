"""Casting likes straight at the store's function through the real link, and the model of the rules to compare with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from dianzan.domain import wire
from dianzan.domain.campaign import Document, State
from dianzan.domain.errors import ApiError
from dianzan.domain.limits import LIKES_PER_CALL_MAX
from dianzan.domain.voters import Voter, VoterClass
from dianzan.domain.windows import Window, now_ms
from dianzan.domain.wire import Outcome
from dianzan.store.like_link import LikeCall, LikeLink
from dianzan.store.store import Store
from tests.support.client import rules

NETWORK = -7
PUBLISHER = 2

Ballot = tuple[bytes, Sequence[int]]
Identity = tuple[int, int, bytes]  # window day, candidate, voter


def voter(number: int | str) -> bytes:
    """The hash of a numbered voter."""
    return blake2b(f"voter {number}".encode(), digest_size=16).digest()


def document(*, width: int = 1, state: State = State.published, **changes: Any) -> Document:
    """A campaign that only the store knows."""
    wanted = rules(**changes)
    codes = tuple(f"c{n}" for n in range(1, 6))
    return Document.model_validate(
        {"version": 2, "state": state, "rules": wanted, "width": width, "candidates": codes, "secret": "00" * 32}
    )


def pack(ballots: Iterable[Ballot], width: int) -> bytes:
    """Ballots as the vote API sends them."""
    return b"".join(
        wire.pack_ballot(Voter(hashed, VoterClass.verified, PUBLISHER), NETWORK, liked, width)
        for hashed, liked in ballots
    )


def call_of(campaign: Document, ballots: Sequence[Ballot], window: Window | None = None) -> LikeCall:
    """One call for ballots that all belong to the first one's shard."""
    return LikeCall(
        shard=campaign.rules.every_shard[wire.shard_of(ballots[0][0], campaign.rules.shards)],
        rules_version=campaign.version,
        window=window or campaign.rules.window_at(now_ms()),
        batch=os.urandom(8),
        ballots=pack(ballots, campaign.width),
        sizes=[len(liked) for _voter, liked in ballots],
    )


def calls_of(campaign: Document, ballots: Iterable[Ballot]) -> list[LikeCall]:
    """One call a shard, or more where the limit of likes in a call asks for it."""
    by_shard: dict[int, list[list[Ballot]]] = {}
    for ballot in ballots:
        groups = by_shard.setdefault(wire.shard_of(ballot[0], campaign.rules.shards), [[]])
        if sum(len(liked) for _voter, liked in groups[-1]) + len(ballot[1]) > LIKES_PER_CALL_MAX:
            groups.append([])
        groups[-1].append(ballot)
    return [call_of(campaign, group) for group in itertools.chain(*by_shard.values())]


def answered(reply: list[Outcome] | ApiError) -> list[str]:
    """The statuses of a reply that is no refusal, one string a ballot: 'caq'."""
    assert not isinstance(reply, ApiError), repr(reply)
    return [outcome.statuses.decode() for outcome in reply]


async def cast(link: LikeLink, campaign: Document, *ballots: Ballot) -> list[str]:
    """Cast ballots of one shard in one call; statuses, one string a ballot."""
    [reply] = await link.send([call_of(campaign, ballots)])
    return answered(reply)


async def cast_many(link: LikeLink, campaign: Document, ballots: Iterable[Ballot]) -> int:
    """Cast ballots over all shards in one pipeline; returns how many likes were counted."""
    replies = await link.send(calls_of(campaign, ballots))
    return sum(statuses.count("c") for reply in replies for statuses in answered(reply))


async def waiting(store: Store, campaign: Document) -> list[wire.Entry]:
    """Every entry in the campaign's streams, decoded."""
    return [
        wire.unpack_entry(entry_id, fields)
        for shard in campaign.rules.every_shard
        for entry_id, fields in await store.streams.read(shard, 100_000)
    ]


def identities(entries: Iterable[wire.Entry]) -> list[Identity]:
    """The likes of entries, in order; a like that stands twice is listed twice."""
    return [
        (entry.window_day, candidate, ballot.voter)
        for entry in entries
        for ballot in entry.ballots
        for candidate in ballot.candidates
    ]


@dataclass
class Model:
    """The rules of counting with nothing but Python's own sets and lists, for one window."""

    quota: int
    liked: dict[bytes, list[int]] = field(default_factory=dict)

    def cast(self, ballots: Iterable[Ballot]) -> list[Outcome]:
        """What the store must answer."""
        return [self._decide(self.liked.setdefault(hashed, []), wanted) for hashed, wanted in ballots]

    def _decide(self, mine: list[int], wanted: Sequence[int]) -> Outcome:
        statuses = ""
        for candidate in wanted:
            if candidate in mine:
                statuses += "a"
            elif len(mine) >= self.quota:
                statuses += "q"
            else:
                mine.append(candidate)
                statuses += "c"
        return Outcome(statuses.encode(), self.quota - len(mine))

    @property
    def counts(self) -> dict[int, int]:
        """Likes per candidate."""
        every = [candidate for mine in self.liked.values() for candidate in mine]
        return {candidate: every.count(candidate) for candidate in set(every)}

    def identities(self, window_day: int) -> set[Identity]:
        """Every like counted."""
        return {(window_day, candidate, hashed) for hashed, mine in self.liked.items() for candidate in mine}


def today(campaign: Document) -> int:
    """The number of the window that is open now."""
    return campaign.rules.window_at(now_ms()).day


def hours_ago(hours: float) -> datetime:
    """An instant relative to now; negative is ahead."""
    return datetime.fromtimestamp(now_ms() / 1000 - hours * 3600, UTC)
