"""Sends a planned campaign through the real store function, worker and ledger, and compares what is counted with it.

The store's own clock decides whether a window is open, so twenty days cannot be lived through in an hour. The function
takes a window's name from its sender and compares only its bounds with the clock: each day is sent under its own name,
with bounds around the present. What follows the campaign's own clock is removing old marks, day after day.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from redis.asyncio import Redis

from dianzan.cli.stores import Stores
from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.campaign_file import parse_rules
from dianzan.domain.errors import ApiError, StoreError, Unavailable
from dianzan.domain.limits import MARKS_STAND_DAYS
from dianzan.domain.shard import Shard
from dianzan.domain.windows import Window, now_ms
from dianzan.domain.wire import Outcome, Status
from dianzan.ledger.records import StoredCampaign
from dianzan.life.drain import drain
from dianzan.life.old_marks import drop_old_marks
from dianzan.roster.candidates import Candidate
from dianzan.store import durability, keys
from dianzan.store.like_link import LikeCall, LikeLink
from loadtests.rehearsal.figures import MB, Day, Figures, RehearsalError
from loadtests.rehearsal.measures import Meter, memory_used
from loadtests.rehearsal.plan import CANDIDATES, QUOTA, SHARDS, Packed, Plan
from loadtests.shapes import DAYS

CAMPAIGN: Final = "rehearsal"
ZONE: Final = "Asia/Shanghai"
HOUR_MS: Final = 3_600_000
BACKLOG_ENTRIES_MAX: Final = 1_024  # about 200,000 likes, two rounds of the worker; memory is then that of the marks
POLL_S: Final = 0.01
LOOK_EVERY_S: Final = 1.0
DRAIN_S_MAX: Final = 600.0
TRIES_MAX: Final = 60  # a second each: a store that stands still while it writes its file again
STORE: Final = "store"  # the meter's name of the store's process

Answer = TypeVar("Answer")


class Stopped(Exception):
    """Somebody asked the rehearsal to stop; it can go on later."""


class Rehearsal:
    """Sends what is left of a plan, batch after batch.

    Killed at any point it is started again with the figures last written: what is sent twice changes nothing, since
    a batch is the same each time and marks are swept only long after their day.
    """

    def __init__(
        self,
        plan: Plan,
        figures: Figures,
        folder: Path,
        stores: Stores,
        *,
        client: Redis,
        meter: Meter,
        death: Callable[[], str | None],
        stopping: asyncio.Event,
    ) -> None:
        """`client` speaks to the one store server. `death` says who has died, None while all run."""
        self._plan, self._figures, self._folder = plan, figures, folder
        self._store, self._ledger, self._lifecycle = stores.store, stores.ledger, stores.lifecycle
        self._client, self._link = client, LikeLink(client)
        self._meter, self._death, self._stopping = meter, death, stopping
        self._looked_s = time.monotonic()
        self._backlog = 0
        self._day_told = -1

    async def run(self) -> None:
        """Publish the campaign if it is not, and send all that is left. Raises Stopped once `stopping` is set."""
        self._stored, self._document = await self._published()
        left = range(await self._first_day(), len(DAYS))
        try:
            for day in left:
                await self._begin(day)
                await self._send_day(day)
                await self._end(day)
            if left:  # measured until the ledger holds the last like, for that is the worker's part
                await drain(self._store.streams, self._stored.shards, DRAIN_S_MAX)
                await self._look()
        finally:
            await self._link.close()

    # ---- the campaign -----------------------------------------------------------------------------------------------

    async def _published(self) -> tuple[StoredCampaign, Document]:
        stored = await self._ledger.campaigns.one(CAMPAIGN)
        if stored is None or stored.state is State.draft:
            await self._lifecycle.create(stored.rules if stored else _rules(self._plan))
            await self._lifecycle.import_candidates(CAMPAIGN, _roster())
            await self._lifecycle.publish(CAMPAIGN)
            self._figures.empty = (await memory_used(self._client))[0]
        stored = await self._lifecycle.stored(CAMPAIGN)
        return stored, await self._ledger.campaigns.document(stored)

    async def _first_day(self) -> int:
        """The day to go on with; without the figures' word the first one whose marks were not swept."""
        swept = self._stored.swept_through
        days = self._stored.rules.window_dates()
        unswept = days.index(swept) + 1 if swept else 0
        if unswept > self._figures.day:
            self._figures.day, self._figures.batch = unswept, 0
        age = datetime.now(UTC) - self._stored.rules.opens
        if self._figures.day < len(DAYS) and age > timedelta(days=MARKS_STAND_DAYS):
            raise RehearsalError(
                f"This rehearsal began {age.days} days ago: the worker would soon sweep marks by the true clock. "
                "Begin again with --fresh."
            )
        return self._figures.day

    # ---- a day ------------------------------------------------------------------------------------------------------

    async def _begin(self, day: int) -> None:
        """Sweep as the worker does when the campaign's clock has come to this day."""
        stored = await self._lifecycle.stored(CAMPAIGN)
        midnight_ms = stored.rules.window_on(stored.rules.window_dates()[day]).start_ms
        await drop_old_marks(self._store, self._ledger, stored, midnight_ms)

    async def _send_day(self, day: int) -> None:
        """Each batch is made while the one before is on the wire."""
        sending: asyncio.Task[None] | None = None
        for batch in range(self._figures.batch, self._plan.batches(day)):
            packed = list(self._plan.packed(day, batch))
            if sending is not None:
                await sending
                self._figures.batch = batch
            await self._until_room()
            sending = asyncio.create_task(self._send(day, packed), name="batch")
            await asyncio.sleep(0)  # lets it write what the socket takes
        if sending is not None:
            await sending
        self._figures.batch = self._plan.batches(day)

    async def _end(self, day: int) -> None:
        await self._look()
        figures, plan = self._figures, self._plan
        used, _peak = await memory_used(self._client)
        held = plan.likes_before(day + 1) - plan.likes_before(max(0, day - MARKS_STAND_DAYS))
        backlog = await self._backlog_bytes()
        ended = Day(likes=plan.likes_of(day), seconds=figures.today_s, store=used, backlog=backlog, held=held)
        figures.days = [*figures.days[:day], ended]
        figures.day, figures.batch, figures.today_s = day + 1, 0, 0.0
        figures.write(self._folder)

    # ---- a batch ----------------------------------------------------------------------------------------------------

    async def _send(self, day: int, packed: Sequence[Packed]) -> None:
        """Send a batch until the store has decided all of it. Raises RehearsalError if it refuses or errs."""
        for _ in range(TRIES_MAX):
            refused = await self._try(self._calls(day, packed), packed)
            if refused is None:
                self._figures.repeated += sum(sum(each.sizes) for each in packed if each.again)
                return
            await asyncio.sleep(LOOK_EVERY_S)
        raise RehearsalError(f"The store does not take likes: {refused}")

    async def _try(self, calls: Sequence[LikeCall], packed: Sequence[Packed]) -> Unavailable | None:
        """None once decided; otherwise why nothing, or nobody knows what, was counted."""
        try:
            replies = await self._link.send(calls)
        except Unavailable as error:
            return error
        for reply, each in zip(replies, packed, strict=True):
            if isinstance(reply, Unavailable):
                return reply
            _require_right(reply, each)
        return None

    def _calls(self, day: int, packed: Sequence[Packed]) -> list[LikeCall]:
        named = self._stored.rules.window_on(self._stored.rules.window_dates()[day])
        now = now_ms()
        window = Window(named.day, now - HOUR_MS, now + HOUR_MS, named.resets_at)
        version = self._document.version
        return [
            LikeCall(Shard(CAMPAIGN, each.shard), version, window, os.urandom(8), each.ballots, each.sizes)
            for each in packed
        ]

    async def _until_room(self) -> None:
        """Look if it is time, and wait while more than BACKLOG_ENTRIES_MAX entries wait for the ledger."""
        while True:
            if self._stopping.is_set():
                raise Stopped
            if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
                await self._look()
            began_s = time.monotonic()
            waiting = await _patiently(lambda: self._store.streams.backlog(self._stored.shards))
            self._backlog = sum(entries or 0 for entries in waiting)
            if self._backlog <= BACKLOG_ENTRIES_MAX:
                return
            await asyncio.sleep(POLL_S)
            self._figures.waited_s += time.monotonic() - began_s

    # ---- once a second ----------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Measure, say how it goes, and write the figures. Raises RehearsalError with the log of who has died."""
        if dead := self._death():
            raise RehearsalError(f"{dead}\nRun it again to go on.")
        figures, now_s = self._figures, time.monotonic()
        figures.seconds += now_s - self._looked_s
        figures.today_s += now_s - self._looked_s
        self._looked_s = now_s
        used, peak = await _patiently(lambda: memory_used(self._client))
        figures.peak, figures.peak_rss = max(figures.peak, peak), max(figures.peak_rss, self._meter.rss(STORE))
        for name, seconds in self._meter.look().items():
            figures.cpu_s[name] = figures.cpu_s.get(name, 0.0) + seconds
        if figures.day != self._day_told and figures.day < len(DAYS):
            self._day_told = figures.day
            sent = self._plan.likes_until(figures.day, figures.batch)
            print(
                f"day {figures.day + 1:>2}: {sent:,} of {figures.likes:,} likes in {figures.seconds:,.0f} s, "
                f"{self._backlog:,} batches wait, store {used / MB:,.0f} MB",
                flush=True,
            )
        figures.write(self._folder)

    async def _backlog_bytes(self) -> int:
        streams = [keys.stream(Shard(CAMPAIGN, shard)) for shard in range(SHARDS)]
        return (await durability.room(self._client, streams)).backlog or 0


async def _patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask again for as long as a batch is sent again."""
    for _ in range(TRIES_MAX - 1):
        try:
            return await ask()
        except StoreError:
            await asyncio.sleep(LOOK_EVERY_S)
    return await ask()


def _require_right(reply: list[Outcome] | ApiError, sent: Packed) -> None:
    """Nobody is over quota by the plan, and what was sent before is never counted again."""
    if isinstance(reply, ApiError):
        raise RehearsalError(f"The store refused: {reply.code}, {reply}. Begin again with --fresh.")
    statuses = b"".join([outcome.statuses for outcome in reply])
    counted, known = statuses.count(Status.counted), statuses.count(Status.already_liked)
    if counted + known < len(statuses) or (sent.again and counted):
        raise RehearsalError(
            f"DIFFERENT: of {len(statuses)} likes {'sent again' if sent.again else 'within quota'} "
            f"the store answered {counted} counted, {known} already liked, the others over quota."
        )


def _rules(plan: Plan) -> Rules:
    """A campaign that opens today, so that no day of it is swept by the true clock while it is rehearsed."""
    today = datetime.now(ZoneInfo(ZONE)).replace(hour=0, minute=0, second=0, microsecond=0)
    raw = {
        "id": CAMPAIGN,
        "title": "为榜样点赞（排练）",
        "opens": today.isoformat(),
        "closes": (today + timedelta(days=len(DAYS))).isoformat(),
        "timezone": ZONE,
        "likes_per_window": QUOTA,
        "shards": SHARDS,
        "expected_voters": plan.voters_a_day,
    }
    return parse_rules(raw, "the rehearsal's campaign")


def _roster() -> list[Candidate]:
    return [
        Candidate(f"r{n:02}", f"候选人{n}", "person" if n % 3 else "team", "", "", "", "", "")
        for n in range(1, CANDIDATES + 1)
    ]
