"""Group commit: what happens to a ballot between its request and the store, whatever happens to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from dianzan.domain import wire
from dianzan.domain.campaign import Document
from dianzan.domain.errors import ApiError, Closed, Overloaded, StoreError, StoreUnavailable, StoreUnsafe
from dianzan.domain.limits import (
    BALLOTS_PER_BATCH_MAX,
    BALLOTS_PER_BATCH_MIN,
    BALLOTS_QUEUED_MAX,
    LIKES_PER_BATCH_MAX,
    LIKES_PER_CALL_MAX,
)
from dianzan.domain.shard import Shard
from dianzan.domain.voters import Voter, VoterClass
from dianzan.domain.wire import Outcome
from dianzan.store.like_link import LikeCall, LikeLink
from tests.support.wait import until
from vote_api.likes import batcher as batcher_module
from vote_api.likes.batcher import Batcher, Decision


def document(campaign: str = "a", version: int = 1) -> Document:
    rules = {"id": campaign, "title": "t", "opens": "2020-01-01", "closes": "2020-12-31"}
    known = {"version": version, "state": "published", "rules": rules, "width": 1, "candidates": ["c01"]}
    return Document.model_validate({**known, "secret": "00" * 32})


A = document()


def ballot(number: int, size: int = 1) -> bytes:
    """A ballot of a voter that can be told from others by its number."""
    voter = Voter(number.to_bytes(16, "big"), VoterClass.device, 0)
    return wire.pack_ballot(voter, 0, range(1, size + 1), 1)


def numbers_in(call: LikeCall) -> list[int]:
    """The voters of a call, in its order."""
    fields = {b"v": b"1", b"w": b"1", b"t": b"1", b"b": call.batch, b"d": call.ballots}
    return [int.from_bytes(found.voter, "big") for found in wire.unpack_entry(b"1-0", fields).ballots]


class HeldLink:
    """Stands where the store's link stands: holds each pipeline until it is let go, and then does as it was told.

    An answer names its voter: `remaining` is the voter's number, so that a reply given to another person shows.
    """

    def __init__(self) -> None:
        self.pipelines: list[list[LikeCall]] = []
        self.let_go = asyncio.Semaphore(0)
        self.in_flight = self.in_flight_max = 0
        self.failure: BaseException | None = None
        self.refused_shards: dict[int, ApiError] = {}
        self.closed = False

    async def send(self, calls: Sequence[LikeCall]) -> list[list[Outcome] | ApiError]:
        self.pipelines.append(list(calls))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            await self.let_go.acquire()
        finally:
            self.in_flight -= 1
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return [self._reply(call) for call in calls]

    def _reply(self, call: LikeCall) -> list[Outcome] | ApiError:
        if call.shard.number in self.refused_shards:
            return self.refused_shards[call.shard.number]
        return [Outcome(b"c" * n, who) for n, who in zip(call.sizes, numbers_in(call), strict=True)]

    async def close(self) -> None:
        self.closed = True

    def release(self, pipelines: int = 1) -> None:
        for _ in range(pipelines):
            self.let_go.release()

    @property
    def sizes(self) -> list[int]:
        """Ballots in each pipeline."""
        return [sum(len(call.sizes) for call in calls) for calls in self.pipelines]

    async def until_sent(self, pipelines: int) -> None:
        async def sent() -> bool:
            return len(self.pipelines) >= pipelines

        await until(sent, what=f"{pipelines} pipelines sent")


class Running:
    """A batcher at work on a held link."""

    def __init__(self) -> None:
        self.link = HeldLink()
        self.batcher = Batcher(cast("LikeLink", self.link), server="a:1")
        self.task = asyncio.create_task(self.batcher.run(), name="batcher")

    def cast(self, number: int, *, shard: int = 0, size: int = 1, of: Document = A) -> asyncio.Future[Decision]:
        return self.batcher.cast(of, Shard(of.rules.id, shard), ballot(number, size), size)

    async def hold_first(self) -> asyncio.Future[Decision]:
        """Put one ballot on the wire, so that what is cast next waits for the next pipeline."""
        first = self.cast(60_000)
        await self.link.until_sent(1)
        return first


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    found = Running()
    yield found
    found.task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await found.task


@pytest.fixture
def whole_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that wait travel in the next pipeline, as far as its limits of likes and calls let them."""
    monkeypatch.setattr(batcher_module, "BALLOTS_PER_BATCH_MIN", BALLOTS_PER_BATCH_MAX)


async def answered(*futures: asyncio.Future[Decision]) -> list[int | str]:
    """Per future the number in its answer, or the code of its error."""
    async with asyncio.timeout(10):
        found = await asyncio.gather(*futures, return_exceptions=True)
    return [each.outcome.remaining if isinstance(each, Decision) else cast("Any", each).code for each in found]


async def test_a_lone_ballot_is_sent_at_once(running: Running) -> None:
    future = running.cast(7, size=3)
    await running.link.until_sent(1)
    running.link.release()
    decision = await future
    assert decision.outcome == Outcome(b"ccc", 7)
    assert decision.window == running.link.pipelines[0][0].window


async def test_ballots_that_arrive_during_a_pipeline_travel_together_in_the_next(running: Running) -> None:
    first = await running.hold_first()
    others = [running.cast(number) for number in range(50)]
    running.link.release(2)
    assert await answered(first, *others) == [60_000, *range(50)]
    assert running.link.sizes == [1, 50]


async def test_half_of_a_long_queue_travels_and_all_of_a_short_one(running: Running) -> None:
    first = await running.hold_first()
    others = [running.cast(number) for number in range(300)]
    running.link.release(5)
    assert await answered(first, *others) == [60_000, *range(300)]
    assert running.link.sizes == [1, 150, 75, BALLOTS_PER_BATCH_MIN, 300 - 150 - 75 - BALLOTS_PER_BATCH_MIN]


async def test_one_pipeline_is_in_flight_however_many_ballots_come(running: Running) -> None:
    futures = []
    for wave in range(5):
        futures += [running.cast(wave * 10 + n, shard=n % 3) for n in range(10)]
        await running.link.until_sent(wave + 1)
        running.link.release()
    running.link.release(5)
    assert await answered(*futures) == list(range(50))
    assert running.link.in_flight_max == 1


async def test_order_is_kept_within_a_shard_and_each_ballot_is_in_one_call(running: Running) -> None:
    first = await running.hold_first()
    futures = [running.cast(number, shard=number % 3) for number in range(600)]
    running.link.release(10)
    assert await answered(first, *futures) == [60_000, *range(600)]
    by_shard: dict[int, list[int]] = {}
    for call in (call for pipeline in running.link.pipelines[1:] for call in pipeline):
        by_shard.setdefault(call.shard.number, []).extend(numbers_in(call))
    assert by_shard == {shard: list(range(shard, 600, 3)) for shard in range(3)}


@pytest.mark.usefixtures("whole_queue")
@pytest.mark.parametrize(
    ("sizes", "calls"),
    [
        ([1], [[1]]),
        ([255], [[255]]),
        ([255, 1], [[255, 1]]),
        ([255, 2], [[255], [2]]),
        ([1, 255, 1], [[1, 255], [1]]),
        ([128, 128, 128], [[128, 128], [128]]),
        ([100, 100, 57, 100], [[100, 100], [57, 100]]),
        ([255, 255, 255], [[255], [255], [255]]),
        ([1] * 257, [[1] * 256, [1]]),
        ([10] * 26, [[10] * 25, [10]]),
    ],
)
async def test_a_call_is_split_at_its_limit_and_a_ballot_never(
    running: Running, sizes: list[int], calls: list[list[int]]
) -> None:
    first = await running.hold_first()
    futures = [running.cast(number, size=size) for number, size in enumerate(sizes)]
    running.link.release(2)
    assert await answered(first, *futures) == [60_000, *range(len(sizes))]
    assert [list(call.sizes) for call in running.link.pipelines[1]] == calls
    assert all(sum(call.sizes) <= LIKES_PER_CALL_MAX for call in running.link.pipelines[1])


@pytest.mark.usefixtures("whole_queue")
async def test_a_pipeline_is_bounded_by_its_likes_too(running: Running) -> None:
    first = await running.hold_first()
    futures = [running.cast(n, size=255) for n in range(100)]
    running.link.release(3)
    await answered(first, *futures)

    assert running.link.sizes == [1, 65, 35]
    assert 64 * 255 < LIKES_PER_BATCH_MAX <= 65 * 255


async def test_likes_that_a_link_refuses_are_told_why_and_the_batcher_goes_on(running: Running) -> None:
    running.link.failure = StoreUnsafe("weak")
    refused = running.cast(1)
    running.link.release()
    assert await answered(refused) == ["store_unsafe"]

    taken = running.cast(2)
    running.link.release()
    assert await answered(taken) == [2]


async def test_campaigns_versions_and_shards_never_share_a_call(running: Running) -> None:
    first = await running.hold_first()
    kinds = [(A, 0), (A, 1), (document(version=2), 0), (document("b"), 0)]
    futures = [running.cast(n, of=kinds[n % 4][0], shard=kinds[n % 4][1]) for n in range(8)]
    running.link.release(2)
    assert await answered(first, *futures) == [60_000, *range(8)]
    calls = running.link.pipelines[1]
    found = [(call.shard.campaign, call.rules_version, call.shard.number, numbers_in(call)) for call in calls]
    assert found == [("a", 1, 0, [0, 4]), ("a", 1, 1, [1, 5]), ("a", 2, 0, [2, 6]), ("b", 1, 0, [3, 7])]
    assert len({call.batch for call in calls}) == 4
    assert all(len(call.batch) == 8 for call in calls)


async def test_past_the_bound_a_ballot_is_refused_until_there_is_room(running: Running) -> None:
    first = await running.hold_first()
    futures = [running.cast(number) for number in range(BALLOTS_QUEUED_MAX)]
    for _ in range(3):
        with pytest.raises(Overloaded):
            running.cast(1)
    running.link.release()
    await running.link.until_sent(2)
    futures += [running.cast(BALLOTS_QUEUED_MAX + number) for number in range(BALLOTS_PER_BATCH_MAX)]
    with pytest.raises(Overloaded):
        running.cast(1)
    running.link.release(30)
    assert await answered(first, *futures) == [60_000, *range(BALLOTS_QUEUED_MAX + BALLOTS_PER_BATCH_MAX)]
    assert max(running.link.sizes) == BALLOTS_PER_BATCH_MAX
    assert sum(running.link.sizes) == 1 + len(futures)


async def test_a_cancelled_request_disturbs_nobody_and_is_still_sent(running: Running) -> None:
    waiting = [asyncio.ensure_future(_wait(running.cast(n))) for n in range(5)]
    await running.link.until_sent(1)
    queued = [asyncio.ensure_future(_wait(running.cast(n))) for n in range(5, 10)]
    await asyncio.sleep(0)
    for cancelled in (waiting[1], waiting[4], queued[0]):
        cancelled.cancel()
    running.link.release(2)
    found = await asyncio.gather(*waiting, *queued, return_exceptions=True)
    kept = [None if isinstance(each, asyncio.CancelledError) else each for each in found]
    assert kept == [0, None, 2, 3, None, None, 6, 7, 8, 9]
    assert [numbers_in(call) for calls in running.link.pipelines for call in calls] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
    ]


async def _wait(future: asyncio.Future[Decision]) -> int:
    return (await future).outcome.remaining


async def test_a_lost_connection_makes_the_whole_batch_unknown_and_only_that(running: Running) -> None:
    lost = [running.cast(number, shard=number) for number in range(4)]
    await running.link.until_sent(1)
    later = [running.cast(number) for number in range(4, 8)]
    running.link.failure = StoreUnavailable("The store did not answer; ask again.")
    running.link.release()
    assert await answered(*lost) == ["store_unavailable"] * 4
    running.link.release()
    assert await answered(*later) == [4, 5, 6, 7]
    assert running.link.sizes == [4, 4]  # nothing was sent again


async def test_a_refused_call_fails_its_own_ballots_only(running: Running) -> None:
    first = await running.hold_first()
    running.link.refused_shards[1] = Closed("Voting has ended.")
    futures = [running.cast(number, shard=number % 3) for number in range(6)]
    running.link.release(2)
    assert await answered(first, *futures) == [60_000, 0, "closed", 2, 3, "closed", 5]


@pytest.mark.parametrize(
    ("refused", "reasons"),
    [
        (StoreUnsafe("The store does not hold this campaign."), ["does not hold this campaign. Run dianzan restore"]),
        (StoreUnavailable("The store refused: NOPERM"), ["NOPERM"]),
        (Closed("Voting has ended."), []),
    ],
)
async def test_what_the_store_refuses_is_told_once_and_what_the_voter_did_is_not(
    running: Running, refused: ApiError, reasons: list[str]
) -> None:
    running.link.refused_shards[0] = refused
    with capture_logs() as lines:
        for number in range(3):
            answer = running.cast(number)
            running.link.release()
            assert await answered(answer) == [refused.code]

    assert [line["server"] for line in lines] == ["a:1"] * len(reasons)
    assert all(reason in line["reason"] for reason, line in zip(reasons, lines, strict=True))


async def test_close_answers_what_was_accepted_and_takes_no_more(running: Running) -> None:
    first = await running.hold_first()
    futures = [running.cast(number) for number in range(10)]
    running.batcher.close()
    with pytest.raises(Overloaded):
        running.cast(11)
    assert not running.link.closed
    running.link.release(2)
    assert await answered(first, *futures) == [60_000, *range(10)]
    async with asyncio.timeout(10):
        await running.task
    assert running.link.closed


async def test_close_ends_a_batcher_that_has_nothing_to_do(running: Running) -> None:
    running.batcher.close()
    async with asyncio.timeout(10):
        await running.task
    assert (running.link.pipelines, running.link.closed) == ([], True)


@pytest.mark.parametrize("failure", [StoreError("like_v1 answered 3 bytes"), ValueError("a bug")])
async def test_what_is_not_foreseen_is_unknown_to_voters_and_ends_the_batcher_loudly(
    running: Running, failure: Exception
) -> None:
    futures = [running.cast(number) for number in range(3)]
    await running.link.until_sent(1)
    running.link.failure = failure
    running.link.release()
    assert await answered(*futures) == ["store_unavailable"] * 3
    with pytest.raises(type(failure)):
        await running.task


async def test_a_batcher_that_is_stopped_leaves_nobody_waiting_on_the_wire(running: Running) -> None:
    futures = [running.cast(number) for number in range(3)]
    await running.link.until_sent(1)
    running.task.cancel()
    assert await answered(*futures) == ["store_unavailable"] * 3
