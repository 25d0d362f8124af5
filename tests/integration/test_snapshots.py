"""Snapshots of a real ledger: a change is told of its own campaign alone, and rosters are read once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from dianzan.ledger.campaigns import Campaigns
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.roster.candidates import Candidate
from results_api.view import Snapshots
from tests.support.casting import voter
from tests.support.client import candidates
from tests.support.ledger_rows import entry, insert, november, published


class CountsReads(Campaigns):
    """Campaigns of which is counted how often each one's roster is read."""

    rosters: Counter[int]

    async def candidates(self, campaign: StoredCampaign) -> dict[int, Candidate]:
        self.rosters[campaign.number] += 1
        return await super().candidates(campaign)


@pytest.fixture
async def campaign(ledger: Ledger) -> StoredCampaign:
    return await published(ledger, november())


async def test_only_the_campaign_that_has_changed_is_told_of(ledger: Ledger, campaign: StoredCampaign) -> None:
    await published(ledger, november())
    told: list[str] = []
    snapshots = Snapshots(ledger, told.append)
    await snapshots.refresh()

    await snapshots.refresh()
    assert told == [], "nothing has changed"

    await insert(ledger, campaign, entry((voter(1), [1])))
    await snapshots.refresh()
    assert told == [campaign.id]


async def test_likes_do_not_make_the_roster_be_read_again_but_an_import_does(
    database_url: str, ledger: Ledger, campaign: StoredCampaign
) -> None:
    reads = await Ledger.connect(database_url)
    reads.campaigns = counted = CountsReads(reads._pool)
    counted.rosters = Counter()
    snapshots = Snapshots(reads, lambda _campaign: None)

    async def count(likes: int) -> int:
        await insert(ledger, campaign, entry((voter(f"{campaign.id} {likes}"), [1])))
        await snapshots.refresh()
        assert f'"likes":{likes}' in snapshots.of(campaign.id).event.body.decode()
        return counted.rosters[campaign.number]

    assert [await count(1), await count(2), await count(3)] == [1, 1, 1]
    async with ledger.campaigns.step(campaign.id) as step:
        await step.put_candidates([(6, candidates(6)[5])])
    assert await count(4) == 2
    assert "c06" in snapshots.of(campaign.id).candidates
    await asyncio.wait_for(reads.aclose(), 10)
