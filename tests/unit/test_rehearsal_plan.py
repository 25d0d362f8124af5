"""The plan of a rehearsal: the same every time, and what it says will be counted is what a count of its bytes gives."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
from loadtests.rehearsal.plan import (
    CANDIDATES,
    LIKES_PER_BATCH,
    LIKES_PER_VISIT,
    QUOTA,
    REPEATED_EVERY,
    SHARDS,
    Packed,
    Plan,
)
from loadtests.shapes import DAYS

from dianzan.domain import wire
from dianzan.domain.limits import LIKES_PER_BATCH_MAX, LIKES_PER_CALL_MAX
from dianzan.domain.voters import Voter, VoterClass

PLAN = Plan(20_000, 7)
LARGE = Plan(2_000_000, 7)

Like = tuple[int, bytes, int]  # day, voter, candidate


def calls(plan: Plan) -> Iterator[tuple[int, Packed]]:
    """Every call of a plan with its day."""
    for day in range(len(DAYS)):
        for batch in range(plan.batches(day)):
            for packed in plan.packed(day, batch):
                yield day, packed


def ballots(packed: Packed) -> Iterator[tuple[bytes, bytes]]:
    """Voter and candidates of every ballot, read as the worker reads them."""
    fields = {b"v": b"1", b"w": b"1", b"t": b"1", b"b": b"12345678", b"d": packed.ballots}
    for ballot in wire.unpack_entry(b"1-0", fields).ballots:
        yield ballot.voter, bytes(ballot.candidates)


def likes(plan: Plan, *, again: bool) -> list[Like]:
    """Every like of a plan, those sent again or the others."""
    return [
        (day, hashed, candidate)
        for day, packed in calls(plan)
        if packed.again is again
        for hashed, candidates in ballots(packed)
        for candidate in candidates
    ]


def test_a_batch_is_the_same_each_time_and_in_any_order() -> None:
    again = Plan(PLAN.likes, PLAN.seed)

    backwards = [list(again.packed(day, 0)) for day in reversed(range(len(DAYS)))]

    assert backwards[::-1] == [list(PLAN.packed(day, 0)) for day in range(len(DAYS))]


def test_another_seed_is_another_campaign() -> None:
    assert list(PLAN.packed(0, 0)) != list(Plan(PLAN.likes, PLAN.seed + 1).packed(0, 0))


@pytest.mark.parametrize("count", [1, 19, 20_000, 1_234_567, 250_000_000])
def test_days_and_batches_add_up_to_the_likes(count: int) -> None:
    plan = Plan(count, 7)

    days = [plan.likes_of(day) for day in range(len(DAYS))]
    batches = [sum(plan.likes_in(day, batch) for batch in range(plan.batches(day))) for day in range(len(DAYS))]

    assert sum(days) == count
    assert batches == days
    assert all(abs(likes - count * weight / sum(DAYS)) < 1 for likes, weight in zip(days, DAYS, strict=True))


def test_every_like_is_sent_once_but_for_repeats_and_is_expected() -> None:
    sent = likes(PLAN, again=False)

    assert len(sent) == len(set(sent)) == PLAN.likes
    expected = PLAN.expected()
    assert expected.likes == Counter((day, candidate) for day, _voter, candidate in sent)
    assert expected.totals == Counter(candidate for _day, _voter, candidate in sent)
    assert expected.people == len({hashed for _day, hashed, _candidate in sent})


def test_days_of_several_batches_are_expected_as_sent() -> None:
    plan = Plan(LIKES_PER_BATCH * 25, 7)
    sent = likes(plan, again=False)

    assert max(plan.batches(day) for day in range(len(DAYS))) > 1
    assert len(set(sent)) == plan.likes
    assert plan.expected().likes == Counter((day, candidate) for day, _voter, candidate in sent)
    assert plan.expected().people == len({hashed for _day, hashed, _candidate in sent})


def test_what_is_sent_again_was_sent_before_in_the_same_batch() -> None:
    for batch in (list(PLAN.packed(day, 0)) for day in range(len(DAYS))):
        before: set[tuple[bytes, bytes]] = set()
        for packed in batch:
            if packed.again:
                assert set(ballots(packed)) <= before
            before |= set(ballots(packed))


def test_a_tenth_of_the_first_visits_is_sent_again() -> None:
    again = sum(len(packed.sizes) for _day, packed in calls(PLAN) if packed.again)
    voters = len({(day, hashed) for day, hashed, _candidate in likes(PLAN, again=False)})

    assert voters / REPEATED_EVERY <= again <= voters / REPEATED_EVERY + SHARDS * len(DAYS)


def test_a_voter_likes_one_to_ten_candidates_a_day_in_visits_of_at_most_five() -> None:
    a_day = Counter((day, hashed) for day, hashed, _candidate in likes(PLAN, again=False))
    visits = {len(liked) for _day, packed in calls(PLAN) for _voter, liked in ballots(packed)}

    assert set(a_day.values()) == set(range(1, QUOTA + 1))
    assert visits == set(range(1, LIKES_PER_VISIT + 1))


def test_voters_come_back_on_other_days_and_new_ones_come_too() -> None:
    plan = Plan(LIKES_PER_BATCH * 100, 7)
    by_day = [
        {
            hashed
            for batch, shard in itertools.product(range(plan.batches(day)), range(SHARDS))
            for hashed in plan.voters(day, batch, shard, len(plan.slates(day, batch, shard)))
        }
        for day in range(6)
    ]

    for yesterday, today in itertools.pairwise(by_day):
        assert yesterday & today
        assert today - yesterday


def test_few_candidates_draw_most_likes_and_all_draw_some() -> None:
    totals = sorted(LARGE.expected().totals.values(), reverse=True)

    assert len(totals) == CANDIDATES
    assert sum(totals[:6]) > sum(totals) * 0.4
    assert 0 < totals[-1] < totals[0] / 20


def test_every_ballot_lies_in_the_shard_it_is_sent_to_and_no_call_is_too_large() -> None:
    for _day, packed in calls(PLAN):
        read = list(ballots(packed))
        assert {wire.shard_of(hashed, SHARDS) for hashed, _liked in read} == {packed.shard}
        assert [len(liked) for _voter, liked in read] == packed.sizes
        assert 0 < sum(packed.sizes) <= LIKES_PER_CALL_MAX


def test_calls_of_a_full_batch_are_filled_and_fit_one_pipeline() -> None:
    batch = list(LARGE.packed(0, 0))
    filled = [sum(packed.sizes) for packed, following in itertools.pairwise(batch) if alike(packed, following)]

    assert sum(sum(packed.sizes) for packed in batch) <= LIKES_PER_BATCH_MAX
    assert min(filled) > LIKES_PER_CALL_MAX - LIKES_PER_VISIT


def alike(packed: Packed, following: Packed) -> bool:
    """Whether the next call goes on where this one was full."""
    return (packed.shard, packed.again) == (following.shard, following.again)


def test_ballots_are_packed_as_the_vote_api_packs_them() -> None:
    packed = next(iter(PLAN.packed(0, 0)))

    again = b"".join(
        wire.pack_ballot(Voter(hashed, VoterClass.device, 0), 7, liked, 1) for hashed, liked in ballots(packed)
    )

    assert again == packed.ballots


def test_the_greatest_days_voters_are_about_those_the_campaign_awaits() -> None:
    greatest = max(range(len(DAYS)), key=LARGE.likes_of)
    voters = sum(
        len(LARGE.slates(greatest, batch, shard)) for batch in range(LARGE.batches(greatest)) for shard in range(SHARDS)
    )

    assert LARGE.voters_a_day == pytest.approx(voters, rel=0.03)
