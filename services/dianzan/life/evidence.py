"""Likes that stand in the ledger and that a store which has lost nothing never took: somebody else put them there."""

from __future__ import annotations

from collections.abc import Mapping

from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.store.store import Store


async def foreign_likes(store: Store, ledger: Ledger, campaign: StoredCampaign) -> int:
    """Likes by the counts beyond what an unbroken store has counted; 0 if there are none, or the store may have lost.

    Once a comparison has found some, a store that has restarted since counts as unbroken too. The counts are read
    first: the store only grows, so what it lacks then it has never had. Shards without a gate are left out.
    """
    counts = await ledger.likes.shard_counts(campaign)
    missing = set(await store.gates.missing(campaign.shards))
    counters = await store.tallies.by_shard(campaign.shards)
    ahead = {shard: beyond(counts[shard], counters[shard]) for shard in campaign.shards if shard not in missing}
    found = [(shard, likes) for shard, likes in ahead.items() if likes]
    if campaign.foreign_since:
        return sum(likes for _shard, likes in found)
    return sum([likes for shard, likes in found if await store.agreements.unbroken(shard)])


def beyond(counts: Mapping[int, int], counters: Mapping[int, int]) -> int:
    """Likes by which some candidates have more in the ledger than in the store."""
    return sum(max(0, likes - counters.get(candidate, 0)) for candidate, likes in counts.items())


def both_ways_out(campaign: str) -> str:
    """What an operator can do about rows that the store never took."""
    return (
        "The alert ForeignLikes and deploy/README.md (Likes that the store never took) say how to look. Remove those "
        f"rows, or run dianzan restore {campaign} --accept-ledger to count them; then run this again."
    )
