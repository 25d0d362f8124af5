"""The open streams: an event is rendered once, and its readers are woken in groups, between which others are served."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Container

from dianzan.domain.addresses import network
from dianzan.domain.errors import CampaignUnknown, Unavailable
from dianzan.domain.limits import STREAMS_SHARE
from dianzan.http.asgi import Message, Receive, Send
from dianzan.process import metrics
from results_api.rendered import OPEN_TO_ALL, Rendered, start

GROUPS = 128  # 20,000 readers are woken 156 at a time, and after each group every other request has its turn
EVERY_S = 0.5  # at least, between two events of a campaign: more often nobody reads numbers
REPEAT_S = 15.0  # in quiet times too: proxies keep the stream open, and the reader sees a fresh `as_of`

_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}
_START = start(200, {**_HEADERS, **OPEN_TO_ALL})
_RETRY: Message = {"type": "http.response.body", "body": b"retry: 2000\n\n", "more_body": True}
_END: Message = {"type": "http.response.body", "body": b""}


class Streams:
    """Sends each reader the campaign's event: at once, after every change, and again in quiet times.

    A reader that takes nothing for a while holds its own task and at most 64 KB (uvicorn's high-water mark) and one
    event; when it reads again it gets the latest event, not those it has missed.
    """

    def __init__(
        self, event_of: Callable[[str], Rendered], *, readers_max: int, proxies: Container[str] = frozenset()
    ) -> None:
        """`proxies`: addresses that stand for others, and have no share of their own."""
        self._event_of, self._readers_max, self._proxies = event_of, readers_max, proxies
        self._share = max(1, int(readers_max * STREAMS_SHARE))
        self._open_of: Counter[bytes] = Counter()
        self._next: dict[str, list[asyncio.Event]] = {}
        self._told_at: dict[str, float] = {}
        self._changed: set[str] = set()
        self._news = asyncio.Event()
        self._numbers = itertools.count()
        self._frames: dict[str, tuple[Rendered, Message]] = {}
        self._open = 0
        self._stopping = False

    def tell(self, campaign: str) -> None:
        """Have the campaign's readers sent its event."""
        self._changed.add(campaign)
        self._news.set()

    def stop(self) -> None:
        """End every stream: an open one would hold the process for as long as its reader stays."""
        self._stopping = True
        for groups in self._next.values():
            for group in groups:
                group.set()

    async def run(self) -> None:
        """Wake readers for ever; it rests as long as it has worked, so that half of the core is for other requests."""
        while True:
            await _within(self._news, EVERY_S)
            self._news.clear()
            began = time.monotonic()
            for campaign in self._due(began):
                await self._wake(campaign)
            took_s = time.monotonic() - began
            await asyncio.sleep(max(took_s, EVERY_S - took_s))

    async def serve(self, campaign: str, address: str, receive: Receive, send: Send) -> None:
        """One reader, until it goes away or the process stops.

        Raises CampaignUnknown; Unavailable above the limit of all, and of one address (of IPv6 a /64, which is a line).
        """
        self._event_of(campaign)
        shares = b"" if address in self._proxies else network(address, 4, 8) or b"?"
        if self._open >= self._readers_max or self._open_of[shares] >= self._share:
            raise Unavailable("Too many open streams here; poll the results instead.", retry_after_s=30)
        self._count(+1, shares)
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send(campaign, send))
                while (await receive())["type"] != "http.disconnect":  # which also follows the end of the answer
                    pass
                sending.cancel()
        finally:
            self._count(-1, shares)

    async def _send(self, campaign: str, send: Send) -> None:
        groups = self._groups(campaign)
        group = next(self._numbers) % GROUPS
        await send(_START)
        await send(_RETRY)
        while not self._stopping:
            following = groups[group]  # before the event is looked up, or a change in between is missed
            try:
                frame = self._frame(campaign)
            except CampaignUnknown:  # Postgres came back older, without it
                break
            await send(frame)
            await following.wait()
        await send(_END)

    def _due(self, now: float) -> list[str]:
        changed, self._changed = self._changed, set()
        return [each for each in self._next if each in changed or now - self._told_at[each] >= REPEAT_S]

    async def _wake(self, campaign: str) -> None:
        self._told_at[campaign] = time.monotonic()
        groups = self._groups(campaign)
        for number, group in enumerate(groups):
            groups[number] = asyncio.Event()
            group.set()
            await asyncio.sleep(0)

    def _groups(self, campaign: str) -> list[asyncio.Event]:
        if campaign not in self._next:
            self._told_at[campaign] = time.monotonic()
            self._next[campaign] = [asyncio.Event() for _ in range(GROUPS)]
        return self._next[campaign]

    def _frame(self, campaign: str) -> Message:
        event = self._event_of(campaign)
        known = self._frames.get(campaign)
        if known is None or known[0] is not event:
            tag = event.etag.strip('"').encode()
            framed = b"event: results\nid: " + tag + b"\ndata: " + event.body + b"\n\n"
            known = self._frames[campaign] = event, {"type": "http.response.body", "body": framed, "more_body": True}
        return known[1]

    def _count(self, change: int, shares: bytes) -> None:
        self._open += change
        if shares:
            self._open_of[shares] += change
            if not self._open_of[shares]:
                del self._open_of[shares]
        metrics.STREAMS.set(self._open)


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
