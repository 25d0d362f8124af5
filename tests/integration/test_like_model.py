"""Random sequences of batches, decided by the store's function and by a model in plain Python: never a difference."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from dianzan.domain import wire
from dianzan.domain.errors import ApiError
from dianzan.store.like_link import LikeLink
from dianzan.store.store import Store
from tests.support.casting import Ballot, Model, call_of, document, identities, today, voter, waiting

VOTERS = [voter(n) for n in range(6)]
# Of width 2 those that share bytes, so that a search across their borders would find what is not there.
CANDIDATES = {1: [1, 2, 3, 99, 114, 255], 2: [1, 255, 256, 257, 258, 513, 514, 770, 5_000]}


@st.composite
def stories(draw: st.DrawFn) -> tuple[int, int, int, list[list[Ballot]]]:
    """Width, quota, shards, and batches of ballots."""
    width = draw(st.sampled_from([1, 2]))
    wanted: st.SearchStrategy[Sequence[int]] = st.lists(st.sampled_from(CANDIDATES[width]), min_size=1, max_size=5)
    batches = st.lists(st.lists(st.tuples(st.sampled_from(VOTERS), wanted), min_size=1, max_size=6), max_size=8)
    return width, draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(batches)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=stories())
async def test_the_function_decides_like_the_model(
    client: Redis, store: Store, link: LikeLink, story: tuple[int, int, int, list[list[Ballot]]]
) -> None:
    width, quota, shards, batches = story
    campaign = document(width=width, likes_per_window=quota, shards=shards, expected_voters=500)
    await store.gates.open(campaign, campaign.rules.every_shard, first=True)
    model = Model(quota)

    for batch in batches:
        for shard in range(shards):
            ballots = [ballot for ballot in batch if wire.shard_of(ballot[0], shards) == shard]
            if not ballots:
                continue
            [reply] = await link.send([call_of(campaign, ballots)])
            assert not isinstance(reply, ApiError), repr(reply)
            assert reply == model.cast(ballots)

    assert await store.tallies.total(campaign.rules.every_shard) == model.counts
    for hashed in VOTERS:
        assert await store.marks.liked(campaign, today(campaign), hashed) == tuple(model.liked.get(hashed, []))
    streamed = identities(await waiting(store, campaign))
    assert len(streamed) == len(set(streamed))
    assert set(streamed) == model.identities(today(campaign))
