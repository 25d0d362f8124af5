"""The contract of `like_v1`: what is counted, what is refused, and that exactly this was written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from dianzan.domain import wire
from dianzan.domain.errors import (
    ApiError,
    ClockSkewed,
    Closed,
    NoRoom,
    NotOpen,
    RulesMoved,
    StoreUnavailable,
    StoreUnsafe,
)
from dianzan.domain.limits import LIKES_PER_CALL_MAX
from dianzan.domain.shard import Shard
from dianzan.domain.windows import now_ms
from dianzan.store import like_link
from dianzan.store.like_link import LikeCall, LikeLink
from dianzan.store.store import Store
from tests.support.casting import (
    NETWORK,
    PUBLISHER,
    Ballot,
    call_of,
    cast,
    hours_ago,
    identities,
    today,
    voter,
    waiting,
)
from tests.support.servers import on_every_store
from tests.support.store_state import configured, dump, opened

A, B = voter("a"), voter("b")

# ---- like_v1: what is counted ---------------------------------------------------------------------------------------

TABLE = [
    # width, quota, ballots in the order cast: one list a call, each ballot (voter, candidates), the statuses expected
    pytest.param(1, 3, [[(A, [1])]], [["c"]], id="counted"),
    pytest.param(1, 3, [[(A, [1, 2, 3])]], [["ccc"]], id="all of the quota at once"),
    pytest.param(1, 3, [[(A, [1])], [(A, [1])]], [["c"], ["a"]], id="the same again"),
    pytest.param(1, 3, [[(A, [1, 1, 1])]], [["caa"]], id="the same thrice in one ballot"),
    pytest.param(1, 2, [[(A, [1, 2, 3])]], [["ccq"]], id="past the quota"),
    pytest.param(1, 2, [[(A, [1, 2])], [(A, [3, 1])]], [["cc"], ["qa"]], id="liked before is known past the quota"),
    pytest.param(
        1, 2, [[(A, [1]), (A, [1, 2]), (A, [3])]], [["c", "ac", "q"]], id="one voter, three ballots, one call"
    ),
    pytest.param(1, 1, [[(A, [1]), (B, [1]), (A, [2]), (B, [1])]], [["c", "c", "q", "a"]], id="two voters mixed"),
    pytest.param(1, 255, [[(A, list(range(1, 256)))]], [["c" * 255]], id="every candidate of width 1"),
    pytest.param(2, 3, [[(A, [257])], [(A, [257, 256, 1])]], [["c"], ["acc"]], id="width 2"),
    pytest.param(
        2, 9, [[(A, [0x0102, 0x0304])], [(A, [0x0203])]], [["cc"], ["c"]], id="width 2 is not found unaligned"
    ),
    pytest.param(2, 2, [[(A, [300, 300, 301, 302])]], [["cacq"]], id="width 2 past the quota"),
    pytest.param(2, 1, [[(A, [5000]), (B, [5000]), (A, [1])]], [["c", "c", "q"]], id="width 2, two voters"),
]


@on_every_store
@pytest.mark.parametrize(("width", "quota", "calls", "expected"), TABLE)
async def test_likes_are_decided_by_the_rules_and_written_exactly(
    *, store: Store, link: LikeLink, width: int, quota: int, calls: list[list[Ballot]], expected: list[list[str]]
) -> None:
    campaign = await opened(store, width=width, likes_per_window=quota)

    assert [await cast(link, campaign, *ballots) for ballots in calls] == expected

    counted = [
        (hashed, candidate)
        for ballots, statuses in zip(calls, expected, strict=True)
        for (hashed, wanted), of_ballot in zip(ballots, statuses, strict=True)
        for candidate, status in zip(wanted, of_ballot, strict=True)
        if status == "c"
    ]
    for hashed in {hashed for hashed, _ in counted}:
        mine = tuple(candidate for other, candidate in counted if other == hashed)
        assert await store.marks.liked(campaign, today(campaign), hashed) == mine
    per_candidate = [candidate for _, candidate in counted]
    assert await store.tallies.total(campaign.rules.every_shard) == {
        c: per_candidate.count(c) for c in set(per_candidate)
    }
    in_stream = [(hashed, candidate) for _day, candidate, hashed in identities(await waiting(store, campaign))]
    assert in_stream == counted


@on_every_store
async def test_a_batch_writes_one_entry_with_only_its_new_likes(store: Store, link: LikeLink) -> None:
    campaign = await opened(store, likes_per_window=2)
    await cast(link, campaign, (A, [1]))
    call = call_of(campaign, [(A, [1, 2, 3]), (B, [1]), (B, [1])])
    before_ms = now_ms()

    await link.send([call])

    _first, entry = await waiting(store, campaign)
    assert entry.batch == call.batch
    assert entry.window_day == today(campaign)
    assert before_ms - 1 <= entry.time_ms <= now_ms() + 1
    assert entry.ballots == [wire.Ballot(A, 2, PUBLISHER, NETWORK, (2,)), wire.Ballot(B, 2, PUBLISHER, NETWORK, (1,))]


@on_every_store
async def test_a_batch_with_nothing_new_writes_nothing(client: Redis, store: Store, link: LikeLink) -> None:
    campaign = await opened(store, likes_per_window=1)
    await cast(link, campaign, (A, [1]))
    before = await dump(client)

    assert await cast(link, campaign, (A, [1]), (A, [2])) == ["a", "q"]

    assert await dump(client) == before


@on_every_store
async def test_the_reply_says_how_many_likes_are_left_after_each_ballot(store: Store, link: LikeLink) -> None:
    campaign = await opened(store, likes_per_window=3)

    [reply] = await link.send([call_of(campaign, [(A, [1]), (A, [2, 3, 4]), (B, [1]), (A, [1])])])

    assert not isinstance(reply, ApiError)
    assert [outcome.remaining for outcome in reply] == [2, 0, 2, 0]


@on_every_store
async def test_marks_of_one_window_do_not_bind_the_next(store: Store, link: LikeLink) -> None:
    campaign = await opened(store, likes_per_window=1)
    window = campaign.rules.window_at(now_ms())

    await link.send([call_of(campaign, [(A, [1])], window)])
    [reply] = await link.send([call_of(campaign, [(A, [1])], replace(window, day=window.day + 1))])

    assert not isinstance(reply, ApiError)
    assert reply[0].statuses == b"c"


@on_every_store
async def test_two_hundred_and_fifty_six_likes_go_in_one_call_and_no_more(
    client: Redis, store: Store, link: LikeLink
) -> None:
    campaign = await opened(store)
    one_each = [(voter(n), [1]) for n in range(LIKES_PER_CALL_MAX + 1)]
    before = await dump(client)

    [refused] = await link.send([call_of(campaign, one_each)])
    assert isinstance(refused, StoreUnavailable)
    assert "MALFORMED" in str(refused)
    assert await dump(client) == before

    assert await cast(link, campaign, *one_each[:-1]) == ["c"] * LIKES_PER_CALL_MAX


# ---- like_v1: what is refused, and that nothing was written ---------------------------------------------------------


def _cut(call: LikeCall) -> LikeCall:
    return replace(call, ballots=call.ballots[:-1])


def _of_no_likes(call: LikeCall) -> LikeCall:
    return replace(call, ballots=call.ballots[:23] + b"\0", sizes=[0])


def _yesterday(call: LikeCall) -> LikeCall:
    day = 86_400_000
    window = call.window
    return replace(call, window=replace(window, start_ms=window.start_ms - day, end_ms=window.end_ms - day))


ELSEWHERE = Shard("elsewhere", 0)
REFUSALS = [
    pytest.param(
        {}, lambda call: replace(call, shard=Shard("elsewhere", 0)), StoreUnsafe, "does not hold", id="UNGATED"
    ),
    pytest.param({"closed": True}, None, Closed, "has ended", id="SHUT"),
    pytest.param({}, lambda call: replace(call, rules_version=1), RulesMoved, "rules changed", id="STALE, older"),
    pytest.param({}, lambda call: replace(call, rules_version=3), RulesMoved, "rules changed", id="STALE, newer"),
    pytest.param({"ahead_ms": 6_000}, None, ClockSkewed, "clock", id="SKEWED, ahead"),
    pytest.param({"ahead_ms": -6_000}, None, ClockSkewed, "clock", id="SKEWED, behind"),
    pytest.param({"opens": hours_ago(-1), "closes": hours_ago(-2)}, None, NotOpen, "not open", id="EARLY"),
    pytest.param({"opens": hours_ago(2), "closes": hours_ago(1)}, None, Closed, "has ended", id="LATE"),
    pytest.param({}, _yesterday, RulesMoved, "window", id="WINDOW"),
    pytest.param({}, _cut, StoreUnavailable, "MALFORMED", id="MALFORMED, cut short"),
    pytest.param({}, _of_no_likes, StoreUnavailable, "MALFORMED", id="MALFORMED, no likes"),
    pytest.param({}, lambda call: replace(call, batch=b"short"), StoreUnavailable, "MALFORMED", id="MALFORMED, batch"),
]


@on_every_store
@pytest.mark.parametrize(("setting", "change", "expected", "words"), REFUSALS)
async def test_a_refused_call_says_why_and_writes_nothing(
    *,
    client: Redis,
    store: Store,
    link: LikeLink,
    monkeypatch: pytest.MonkeyPatch,
    setting: dict[str, Any],
    change: Callable[[LikeCall], LikeCall] | None,
    expected: type[ApiError],
    words: str,
) -> None:
    rules = {name: value for name, value in setting.items() if name in ("opens", "closes")}
    campaign = await opened(store, **rules)
    if "closed" in setting:
        await store.gates.close(campaign.rules.every_shard)
    call = call_of(campaign, [(A, [1]), (B, [2])])
    before = await dump(client)
    monkeypatch.setattr(like_link, "now_ms", lambda: now_ms() + setting.get("ahead_ms", 0))

    [refused] = await link.send([change(call) if change else call])

    assert type(refused) is expected
    assert words in str(refused)
    assert await dump(client) == before


@on_every_store
async def test_a_refused_call_spoils_no_other_in_its_pipeline(store: Store, link: LikeLink) -> None:
    campaign = await opened(store)
    good, stale = call_of(campaign, [(A, [1])]), replace(call_of(campaign, [(B, [1])]), rules_version=9)

    first, second, third = await link.send([good, stale, good])

    assert not isinstance(first, ApiError)
    assert isinstance(second, RulesMoved)
    assert not isinstance(third, ApiError)
    assert (first[0].statuses, third[0].statuses) == (b"c", b"a")


async def test_a_full_store_refuses_likes_but_closes_and_is_emptied(
    client: Redis, store: Store, link: LikeLink
) -> None:
    campaign = await opened(store)
    await cast(link, campaign, (A, [1]))
    before = await dump(client)

    async with configured(client, "maxmemory", "1mb"):
        [refused] = await link.send([call_of(campaign, [(B, [1])])])
        assert isinstance(refused, NoRoom)
        assert await dump(client) == before

        [entry] = await waiting(store, campaign)
        assert await store.streams.remove(Shard(campaign.rules.id, 0), [(entry.entry_id, entry.batch)]) == 1
        await store.gates.close(campaign.rules.every_shard)

    [refused] = await link.send([call_of(campaign, [(B, [1])])])
    assert isinstance(refused, Closed)
