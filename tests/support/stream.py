"""A reader of server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.client import CampaignClient
from tests.support.wait import until


@dataclass
class Events:
    """The events read so far, as (name, data)."""

    read: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def until_number(self, number: int, within_s: float = 2) -> dict[str, Any]:
        """Wait for the event of that number, counted from 1, and return its data."""

        async def there() -> bool:
            return len(self.read) >= number

        await until(there, within_s=within_s, what=f"event {number}")
        return self.read[number - 1][1]


@asynccontextmanager
async def streamed(campaign: CampaignClient) -> AsyncIterator[Events]:
    """Read the campaign's stream in the background until the block ends."""
    events = Events()
    async with campaign.http.stream("GET", f"{campaign.results_url}/results/stream") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        reading = asyncio.create_task(_read(answer.aiter_lines(), events))
        try:
            yield events
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


async def _read(lines: AsyncIterator[str], events: Events) -> None:
    name = ""
    async for line in lines:
        kind, _, value = line.partition(": ")
        if kind == "event":
            name = value
        elif kind == "data":
            events.read.append((name, json.loads(value)))
