"""The whole way of a like on real stores: one campaign, the link, the consumer, and consumers that die midway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from dianzan.domain.campaign import Document
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.life.lifecycle import Lifecycle
from dianzan.life.recount import recount
from dianzan.life.restore import Restorer
from dianzan.life.seal import Sealer
from dianzan.process import faults
from dianzan.process.faults import FaultRaised
from dianzan.store.like_link import LikeLink
from dianzan.store.store import Store
from tally_worker.flush import Consumer, Flush
from tests.support.casting import Ballot, cast_many, voter
from tests.support.client import candidates, rules
from tests.support.nodes import one_server


@dataclass(frozen=True)
class Way:
    """One campaign on both stores, and the consumer between them."""

    store: Store
    ledger: Ledger
    link: LikeLink
    lifecycle: Lifecycle
    document: Document
    campaign: StoredCampaign
    consumer: Consumer

    async def cast(self, *ballots: Ballot) -> int:
        """Cast and return how many likes were counted."""
        return await cast_many(self.link, self.document, ballots)

    async def flush(self, consumer: Consumer | None = None) -> list[Flush]:
        """One round over all shards."""
        return [await (consumer or self.consumer).run_once(self.campaign, shard) for shard in self.campaign.shards]

    async def killed(self, point: str) -> None:
        """One round by a worker that dies at a fault point, in each shard that has likes."""
        try:
            for shard in self.campaign.shards:
                if any(await self.store.streams.backlog([shard])):
                    faults.arm(f"{point}:raise")
                    with pytest.raises(FaultRaised):
                        await self.consumer.run_once(self.campaign, shard)
        finally:
            faults.arm("")

    @property
    def sealer(self) -> Sealer:
        """What seals the campaign."""
        return Sealer(self.store, self.ledger, self.lifecycle)

    @property
    def restorer(self) -> Restorer:
        """What rebuilds the campaign's shards."""
        return Restorer(self.store, self.ledger)

    async def in_ledger(self) -> dict[int, int]:
        """Rows of the ledger per candidate."""
        return await self.ledger.recounts.rows(self.campaign)

    async def check(self, likes: dict[int, int]) -> None:
        """Every count is the same, nothing waits."""
        counted = await recount(self.store, self.ledger, self.campaign)
        assert counted.equal, counted.differences()
        assert counted.waiting == 0
        assert counted.ledger == likes
        hours = await self.ledger.tallies.hours(self.campaign)
        assert sum(number for _hour, number in hours) == sum(likes.values())


async def make_way(
    valkey: Redis, ledger: Ledger, link: LikeLink, *, shards: int, publishers: Sequence[str] = ("one", "two")
) -> Way:
    store = Store(one_server(valkey))
    lifecycle = Lifecycle(store, ledger)
    wanted = rules(shards=shards, voter_classes=["device", "verified"], publishers=publishers)
    await lifecycle.create(wanted)
    await lifecycle.import_candidates(wanted.id, candidates(5))
    document = await lifecycle.publish(wanted.id)
    campaign = await lifecycle.stored(wanted.id)
    return Way(store, ledger, link, lifecycle, document, campaign, Consumer(store, ledger))


def ballots(start: int, stop: int) -> list[Ballot]:
    """Two likes each of numbered voters."""
    return [(voter(n), [1 + n % 5, 1 + (n + 1) % 5]) for n in range(start, stop)]
