"""Campaigns and stream entries made straight for the ledger, and questions asked of its tables."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dianzan.domain import voters
from dianzan.domain.campaign import Rules
from dianzan.domain.windows import EPOCH, to_ms
from dianzan.domain.wire import Ballot, Entry
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from tests.support.client import candidates, rules

OPENS = datetime(2026, 11, 20, tzinfo=UTC)
CLOSES = datetime(2026, 11, 23, tzinfo=UTC)
NOON = datetime(2026, 11, 21, 4, tzinfo=UTC)  # in Beijing
_entries = itertools.count(1)


def november(**changes: Any) -> Rules:
    """Rules of a campaign of fixed dates: in Beijing it touches 20 to 23 November."""
    return rules(**{"opens": OPENS, "closes": CLOSES, **changes})


async def published(ledger: Ledger, wanted: Rules) -> StoredCampaign:
    """A published campaign of five candidates with its partitions, without a store."""
    async with ledger.campaigns.step(wanted.id) as step:
        await step.create(wanted, voters.new_key())
    async with ledger.campaigns.step(wanted.id) as step:
        await step.put_candidates(list(enumerate(candidates(5), start=1)))
        await step.create_partitions(wanted.window_dates())
        await step.publish(1)
    return await stored(ledger, wanted.id)


async def stored(ledger: Ledger, campaign: str) -> StoredCampaign:
    """The campaign's row."""
    found = await ledger.campaigns.one(campaign)
    assert found is not None
    return found


def entry(*ballots: tuple[bytes, Sequence[int]], at: datetime = NOON) -> Entry:
    """A stream entry of one instant in Beijing's window of that instant."""
    number = next(_entries)
    day = (november().window_at(to_ms(at)).date - EPOCH).days
    likes = [Ballot(voter, 1, 0, 7, tuple(liked)) for voter, liked in ballots]
    return Entry(f"{number}-0".encode(), number.to_bytes(8, "big"), to_ms(at), day, likes)


async def insert(ledger: Ledger, campaign: StoredCampaign, *entries: Entry, shard: int = 0) -> int:
    """Insert as one flush of a shard; returns how many likes were new."""
    async with ledger.likes.locked_shard(campaign, campaign.shards[shard]) as flush:
        assert flush is not None
        return await flush.insert(entries)
