"""Voting windows: which day (or whole campaign) an instant belongs to, in the campaign's time zone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open span [start_ms, end_ms) of Unix milliseconds; `day` is its first local date in days since 1970.

    `resets_at` is when the next one begins, None in the last.
    """

    day: int
    start_ms: int
    end_ms: int
    resets_at: str | None

    @property
    def date(self) -> date:
        """The local date on which the window begins."""
        return EPOCH + timedelta(days=self.day)


def now_ms() -> int:
    """Unix time in milliseconds by this process's clock."""
    return time.time_ns() // 1_000_000


def to_ms(instant: datetime) -> int:
    """Unix milliseconds of an aware datetime."""
    return round(instant.timestamp() * 1000)


def from_ms(instant_ms: int) -> datetime:
    """The aware UTC datetime of Unix milliseconds."""
    return datetime.fromtimestamp(instant_ms / 1000, UTC)


def day_window(day: date, zone: ZoneInfo) -> Window:
    """The local day `day`: from its midnight to the next one, 23 to 25 hours where clocks change."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    following = day + timedelta(days=1)
    end = datetime(following.year, following.month, following.day, tzinfo=zone)
    return Window((day - EPOCH).days, to_ms(start), to_ms(end), end.isoformat())


def day_window_at(instant_ms: int, zone: ZoneInfo) -> Window:
    """The local day that holds `instant_ms`."""
    day = datetime.fromtimestamp(instant_ms // 1000, zone).date()
    window = day_window(day, zone)
    # Where a clock change falls on midnight, the wall-clock date and the day's bounds can disagree for an hour.
    if instant_ms < window.start_ms:
        return day_window(day - timedelta(days=1), zone)
    if instant_ms >= window.end_ms:
        return day_window(day + timedelta(days=1), zone)
    return window


def campaign_window(opens: datetime, closes: datetime, zone: ZoneInfo) -> Window:
    """The one window of a campaign that counts over its whole life."""
    day = (opens.astimezone(zone).date() - EPOCH).days
    return Window(day, to_ms(opens), to_ms(closes), None)


def days_between(opens: datetime, closes: datetime, zone: ZoneInfo) -> Iterator[date]:
    """Every local date touched by [opens, closes)."""
    day = day_window_at(to_ms(opens), zone).date
    last = day_window_at(to_ms(closes) - 1, zone).date
    while day <= last:
        yield day
        day += timedelta(days=1)
