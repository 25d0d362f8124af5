"""Two published campaigns that are given more days at the same moment: neither publication is refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from redis.asyncio import Redis

from dianzan.ledger import Ledger
from dianzan.like_link import LikeLink
from tests.support.way import Way, make_way


async def test_two_campaigns_are_extended_at_the_same_time(
    valkey: Redis, ledger: Ledger, valkey_link: LikeLink
) -> None:
    both = [await make_way(valkey, ledger, valkey_link, shards=1) for _ in range(2)]

    async def extend(way: Way, days: int) -> None:
        old = way.document.rules
        await way.lifecycle.create(old.model_copy(update={"closes": old.closes + timedelta(days=days)}))
        await way.lifecycle.publish(way.campaign.id)

    for days in range(1, 6):
        await asyncio.gather(*(extend(way, days) for way in both))

    for way in both:
        published = await way.lifecycle.stored(way.campaign.id)
        assert published.rules.closes == way.document.rules.closes + timedelta(days=5)
