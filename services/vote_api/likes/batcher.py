"""Group commit: ballots that arrive while a pipeline is on the wire wait and travel together in the next one."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from dianzan.domain.campaign import Document
from dianzan.domain.errors import ApiError, NoRoom, Overloaded, StoreUnavailable, StoreUnsafe
from dianzan.domain.limits import (
    BALLOTS_PER_BATCH_MAX,
    BALLOTS_PER_BATCH_MIN,
    BALLOTS_QUEUED_MAX,
    LIKES_PER_BATCH_MAX,
    LIKES_PER_CALL_MAX,
)
from dianzan.domain.shard import Shard
from dianzan.domain.windows import Window, now_ms
from dianzan.domain.wire import Outcome
from dianzan.process import faults, logs, metrics
from dianzan.process.trouble import Trouble
from dianzan.store.like_link import LikeCall, LikeLink

_log = logs.get(__name__)

_OF_THE_STORE: Final = (StoreUnsafe, StoreUnavailable, NoRoom)


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What the store decided of a ballot, and the window it was decided in."""

    outcome: Outcome
    window: Window


class _Waiting(msgspec.Struct):
    document: Document
    shard: Shard
    ballot: bytes
    size: int
    decided: asyncio.Future[Decision]


# The hot path. A request puts its ballot into the queue and is called back by a future; one task owns the connection:
#
#   1. wait for the first ballot
#   2. take the oldest half of the queue: at least BALLOTS_PER_BATCH_MIN ballots if there are as many, at most
#      BALLOTS_PER_BATCH_MAX, and about LIKES_PER_BATCH_MAX likes. All of it would leave this process without work
#      until the store has answered: a fifth of its time at 256 connections
#   3. one call per (campaign, shard), split so that a call holds at most LIKES_PER_CALL_MAX likes
#   4. send all calls as one pipeline; the store decides, writes the ledger entries and fsyncs once
#   5. give each future its outcome, or its call's refusal; a lost connection makes all of them "unknown" (503)
#
# Invariants: one pipeline in flight; a ballot is in exactly one call; a client that hangs up stops nothing,
# so replies cannot shift to other people; nothing is retried here.
class Batcher:
    """Carries ballots to one store node. Order is kept within a shard."""

    def __init__(self, link: LikeLink, *, server: str) -> None:
        """`server`: the address that the link leads to, for the log."""
        self._link = link
        self._unconfirmed = Trouble(
            _log,
            "likes are refused or unknown, and their voters are told to ask again",
            over="likes are confirmed again",
            server=server,
        )
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._closing = False

    def cast(self, document: Document, shard: Shard, ballot: bytes, size: int) -> asyncio.Future[Decision]:
        """Queue a ballot of `size` likes. Raises Overloaded past BALLOTS_QUEUED_MAX, and when shutting down.

        The future ends with a Decision, or with the ApiError that says what is known.
        """
        if self._closing or len(self._queue) >= BALLOTS_QUEUED_MAX:
            raise Overloaded("Too many likes are waiting; nothing was counted. Ask again.")
        decided: asyncio.Future[Decision] = self._loop.create_future()
        self._queue.append(_Waiting(document, shard, ballot, size, decided))
        self._arrived.set()
        return decided

    @property
    def queued(self) -> int:
        """Ballots that wait for the next pipeline."""
        return len(self._queue)

    async def run(self) -> None:
        """Send batches until `close` was called and the queue is empty."""
        while self._queue or not self._closing:
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._send(self._take())
        await self._link.close()

    def close(self) -> None:
        """Take no more ballots; `run` ends when those already accepted are answered."""
        self._closing = True
        self._arrived.set()

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        likes = 0
        most = min(max(BALLOTS_PER_BATCH_MIN, len(self._queue) // 2), BALLOTS_PER_BATCH_MAX)
        while self._queue and len(batch) < most and likes < LIKES_PER_BATCH_MAX:
            batch.append(self._queue.popleft())
            likes += batch[-1].size
        return batch

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        calls, groups = _calls(batch)
        started = time.perf_counter()
        try:
            replies = await self._link.send(calls)
        except ApiError as error:
            self._unconfirmed.lasts(str(error))
            _fail(batch, error)
        except BaseException:
            _fail(batch, StoreUnavailable("The store's answer could not be read; ask again."))
            raise
        else:
            faults.hit("batch.before_answer")
            for call, group, reply in zip(calls, groups, replies, strict=True):
                _answer(call, group, reply)
            self._tell(calls, replies)
        metrics.BATCH_SECONDS.observe(time.perf_counter() - started)
        metrics.BATCH_BALLOTS.observe(len(batch))

    def _tell(self, calls: Sequence[LikeCall], replies: Sequence[list[Outcome] | ApiError]) -> None:
        """The store's own refusals; not those of voters who come early or late, nor of rules that have just moved."""
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, _OF_THE_STORE):
                advice = f" Run dianzan restore {call.shard.campaign}." if isinstance(reply, StoreUnsafe) else ""
                self._unconfirmed.lasts(f"{reply}{advice}")
                return
        self._unconfirmed.is_over()


def _calls(batch: Sequence[_Waiting]) -> tuple[list[LikeCall], list[list[_Waiting]]]:
    by_shard: dict[tuple[int, Shard], list[_Waiting]] = {}
    for waiting in batch:
        by_shard.setdefault((waiting.document.version, waiting.shard), []).append(waiting)
    sent_ms = now_ms()
    groups = [group for ballots in by_shard.values() for group in _split(ballots)]
    return [_call(group, group[0].document.rules.window_at(sent_ms)) for group in groups], groups


def _split(ballots: Iterable[_Waiting]) -> Iterable[list[_Waiting]]:
    group: list[_Waiting] = []
    likes = 0
    for waiting in ballots:
        if likes + waiting.size > LIKES_PER_CALL_MAX:
            yield group
            group, likes = [], 0
        group.append(waiting)
        likes += waiting.size
    yield group


def _call(group: Sequence[_Waiting], window: Window) -> LikeCall:
    first = group[0]
    return LikeCall(
        shard=first.shard,
        rules_version=first.document.version,
        window=window,
        batch=os.urandom(8),
        ballots=b"".join([waiting.ballot for waiting in group]),
        sizes=[waiting.size for waiting in group],
    )


def _answer(call: LikeCall, group: Sequence[_Waiting], reply: list[Outcome] | ApiError) -> None:
    if isinstance(reply, ApiError):
        _fail(group, reply)
        return
    for waiting, outcome in zip(group, reply, strict=True):
        if not waiting.decided.done():
            waiting.decided.set_result(Decision(outcome, call.window))


def _fail(group: Iterable[_Waiting], error: ApiError) -> None:
    for waiting in group:
        if not waiting.decided.done():
            waiting.decided.set_exception(error)
