"""What a flush and a step see, hold and leave behind, alike in each PostgreSQL and in the simulated one."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from dianzan.domain.campaign import State
from dianzan.domain.errors import CampaignError
from dianzan.ledger import step as production
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import Seal, StoredCampaign, Tally
from tests.simulation import ledger_client as simulation
from tests.support.casting import voter
from tests.support.ledger_rows import NOON, entry, insert, november, published, stored
from tests.support.servers import on_every_ledger

pytestmark = on_every_ledger

A, B, C = sorted(voter(name) for name in "abc")


@pytest.fixture
async def campaign(ledger: Ledger) -> StoredCampaign:
    return await published(ledger, november())


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (production, simulation):
        monkeypatch.setattr(module, "LOCK_WAIT_S", 1)


# ---- a flush --------------------------------------------------------------------------------------------------------


async def test_a_flush_sees_its_own_likes_and_others_do_not_before_the_commit(
    ledger: Ledger, campaign: StoredCampaign
) -> None:
    first, second = campaign.shards[:2]
    await insert(ledger, campaign, entry((A, [1])))
    async with ledger.likes.locked_shard(campaign, first) as flush:
        assert flush is not None
        assert await flush.insert([entry((B, [1, 2])), entry((A, [1]))]) == 2
        assert await flush.counts() == {1: 2, 2: 1}
        assert await ledger.recounts.counts(campaign) == {1: 1}
        assert await ledger.recounts.rows(campaign) == {1: 1}
    async with ledger.likes.locked_shard(campaign, second) as flush:
        assert flush is not None
        assert await flush.counts() == {}

    assert await ledger.recounts.counts(campaign) == {1: 2, 2: 1}


async def test_counts_are_kept_by_the_shard_that_inserted(ledger: Ledger, campaign: StoredCampaign) -> None:
    await insert(ledger, campaign, entry((A, [1, 2])), shard=0)
    await insert(ledger, campaign, entry((A, [2]), (B, [2])), shard=2)

    first, second, third, fourth = campaign.shards
    assert await ledger.likes.shard_counts(campaign) == {first: {1: 1, 2: 1}, second: {}, third: {2: 1}, fourth: {}}
    assert await ledger.recounts.counts(campaign) == {1: 1, 2: 2}
    assert await ledger.recounts.identities(campaign) == {1: 1, 2: 2}


async def test_an_empty_ledger_counts_nothing_and_no_people(ledger: Ledger, campaign: StoredCampaign) -> None:
    assert await ledger.recounts.counts(campaign) == {}
    assert await ledger.recounts.rows(campaign) == {}
    assert await ledger.recounts.identities(campaign) == {}
    assert await ledger.recounts.people(campaign) == {0: 0}
    assert await ledger.campaigns.seal(campaign) is None


async def test_the_voters_of_a_window_are_given_with_what_they_liked_in_the_order_of_liking(
    ledger: Ledger, campaign: StoredCampaign
) -> None:
    later = NOON + timedelta(seconds=1)
    await insert(ledger, campaign, entry((B, [3]), (A, [5])), entry((A, [2, 1]), at=later))
    await insert(ledger, campaign, entry((C, [1]), at=NOON + timedelta(days=1)))

    day = campaign.rules.window_dates()[1]
    assert sorted([liked async for liked in ledger.likes.voters_of(campaign, day)]) == [(A, [5, 1, 2]), (B, [3])]


async def test_likes_that_an_open_flush_holds_are_waited_for(ledger: Ledger, campaign: StoredCampaign) -> None:
    async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as flush:
        assert flush is not None
        await flush.insert([entry((A, [1]))])
        other = asyncio.create_task(insert(ledger, campaign, entry((A, [1]), (B, [1])), shard=1))
        done, _pending = await asyncio.wait([other], timeout=0.3)
        assert not done

    assert await other == 1
    assert await ledger.recounts.counts(campaign) == {1: 2}


async def test_a_flush_that_fails_gives_its_lock_back(ledger: Ledger, campaign: StoredCampaign) -> None:
    async def fail() -> None:
        async with ledger.likes.locked_shard(campaign, campaign.shards[0]):
            raise RuntimeError("the store is away")

    with pytest.raises(RuntimeError):
        await fail()

    async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as flush:
        assert flush is not None


# ---- a step ---------------------------------------------------------------------------------------------------------


async def test_two_steps_of_a_campaign_do_not_overlap(
    ledger: Ledger, campaign: StoredCampaign, short_wait: None
) -> None:
    async with ledger.campaigns.step(campaign.id):
        with pytest.raises(CampaignError, match="Another command"):
            async with ledger.campaigns.step(campaign.id):
                pytest.fail("two at once")
        async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as flush:
            assert flush is not None, "flushes go on"


async def test_a_step_that_waits_begins_when_the_other_has_ended(ledger: Ledger, campaign: StoredCampaign) -> None:
    async def version_seen() -> int:
        async with ledger.campaigns.step(campaign.id) as step:
            assert step.campaign is not None
            return step.campaign.version

    async with ledger.campaigns.step(campaign.id) as step:
        waiting = asyncio.create_task(version_seen())
        await step.close()
        done, _pending = await asyncio.wait([waiting], timeout=0.3)
        assert not done

    assert await waiting == campaign.version + 1


async def test_a_step_waits_for_flushes_and_lets_none_begin(ledger: Ledger, campaign: StoredCampaign) -> None:
    locked, released = asyncio.Event(), asyncio.Event()

    async def flush_slowly() -> None:
        async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as flush:
            assert flush is not None
            await flush.insert([entry((A, [1]))])
            locked.set()
            await released.wait()

    flushing = asyncio.create_task(flush_slowly())
    await locked.wait()
    async with ledger.campaigns.step(campaign.id) as step:
        waiting = asyncio.create_task(step.lock_shards(campaign.shards[:2]))
        done, _pending = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        released.set()
        await asyncio.gather(flushing, waiting)
        for shard, free in zip(campaign.shards[:3], [False, False, True], strict=True):
            async with ledger.likes.locked_shard(campaign, shard) as flush:
                assert (flush is not None) == free
        assert await ledger.recounts.rows(campaign) == {1: 1}
    async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as flush:
        assert flush is not None


async def test_a_step_gives_up_on_a_flush_that_does_not_end(
    ledger: Ledger, campaign: StoredCampaign, short_wait: None
) -> None:
    async with ledger.likes.locked_shard(campaign, campaign.shards[1]):
        with pytest.raises(CampaignError, match="flush has not ended"):
            async with ledger.campaigns.step(campaign.id) as step:
                await step.lock_shards(campaign.shards)

    async with ledger.campaigns.step(campaign.id) as step:
        await step.lock_shards(campaign.shards)


async def test_a_step_knows_the_candidates_and_whether_there_are_likes(
    ledger: Ledger, campaign: StoredCampaign
) -> None:
    candidates = await ledger.campaigns.candidates(campaign)
    async with ledger.campaigns.step(campaign.id) as step:
        assert step.campaign == campaign
        assert await step.candidate_codes() == {candidate.code: index for index, candidate in candidates.items()}
        assert await step.publisher_codes() == {}
        assert await step.has_likes() is False
        await insert(ledger, campaign, entry((A, [1])))
        assert await step.has_likes() is True

    document = await ledger.campaigns.document(campaign)
    assert document.candidates == tuple(candidate.code for candidate in candidates.values())
    assert (document.version, document.state, document.rules) == (campaign.version, State.published, campaign.rules)


async def test_a_campaign_is_closed_once_and_only_by_a_step_that_ends_well(
    ledger: Ledger, campaign: StoredCampaign
) -> None:
    async def fail() -> None:
        async with ledger.campaigns.step(campaign.id) as step:
            await step.close()
            raise RuntimeError("the store is away")

    with pytest.raises(RuntimeError):
        await fail()
    assert await stored(ledger, campaign.id) == campaign

    for _ in range(2):
        async with ledger.campaigns.step(campaign.id) as step:
            await step.close()

    closed = await stored(ledger, campaign.id)
    assert (closed.state, closed.version) == (State.closed, campaign.version + 1)


@pytest.mark.parametrize(("past", "expected"), [(-1, None), (0, None), (1, 2), (7, 8)])
async def test_a_version_passes_a_later_one_and_no_other(
    ledger: Ledger, campaign: StoredCampaign, past: int, expected: int | None
) -> None:
    async with ledger.campaigns.step(campaign.id) as step:
        passed = await step.pass_version(campaign.version + past)

    assert passed == (None if expected is None else campaign.version + expected)
    assert (await stored(ledger, campaign.id)).version == campaign.version + (expected or 0)


async def test_a_seal_is_read_back_as_it_was_written(ledger: Ledger, campaign: StoredCampaign) -> None:
    tallies = {2: (1, Tally(5, 3)), 1: (2, Tally(4, 4)), 3: (3, Tally(0, 0))}
    async with ledger.campaigns.step(campaign.id) as step:
        await step.close()
    async with ledger.campaigns.step(campaign.id) as step:
        written = Seal(await step.now(), 9, 6, tallies, "d" * 64, {"rules": "a" * 64})
        await step.seal(written)

    assert await ledger.campaigns.seal(campaign) == written
    sealed = await stored(ledger, campaign.id)
    assert (sealed.state, sealed.version) == (State.sealed, campaign.version + 2)


async def test_counts_and_rows_are_of_one_instant_while_a_flush_is_open(
    ledger: Ledger, campaign: StoredCampaign
) -> None:
    await insert(ledger, campaign, entry((A, [1, 2])))
    async with ledger.likes.locked_shard(campaign, campaign.shards[0]) as flush:
        assert flush is not None
        await flush.insert([entry((B, [2]))])

        assert await ledger.recounts.counts_and_rows(campaign) == ({1: 1, 2: 1}, {1: 1, 2: 1})
    assert await ledger.recounts.counts_and_rows(campaign) == ({1: 1, 2: 2}, {1: 1, 2: 2})
