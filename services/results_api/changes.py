"""Wakes the readers of a campaign's stream when its results change, and all of them when the process stops."""

from __future__ import annotations

import asyncio


class Changes:
    """One event a campaign, shared by its readers: twenty thousand of a quiet campaign cost nothing at each reading."""

    def __init__(self) -> None:
        self._next: dict[str, asyncio.Event] = {}
        self.stopping = False

    def next_of(self, campaign: str) -> asyncio.Event:
        """Set at the next change. Take it before reading what may change, or a change in between is missed."""
        return self._next.setdefault(campaign, asyncio.Event())

    def tell(self, campaign: str) -> None:
        """Wake the campaign's readers."""
        waited_for = self._next.pop(campaign, None)
        if waited_for is not None:
            waited_for.set()

    def stop(self) -> None:
        """Wake everybody for the last time."""
        self.stopping = True
        for campaign in list(self._next):
            self.tell(campaign)


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; False where it did not come in time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
