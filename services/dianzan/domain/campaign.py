"""A campaign: its rules, its life (draft, published, closed, sealed) and the document published into the store."""

from __future__ import annotations

from datetime import UTC, date, datetime
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from dianzan.domain.errors import CampaignError
from dianzan.domain.limits import (
    CAMPAIGN_DAYS_MAX,
    EXPECTED_VOTERS_MAX,
    LIKES_PER_WINDOW_MAX,
    PUBLISHERS_MAX,
    SHARDS_MAX,
    VOTERS_PER_BUCKET,
)
from dianzan.domain.voters import CampaignKey, VoterClass
from dianzan.domain.windows import Window, campaign_window, day_window, day_window_at, days_between, from_ms, to_ms
from dianzan.domain.wire import width_of

CAMPAIGN_ID: Final = r"[a-z0-9][a-z0-9-]{0,31}"
CampaignId = Annotated[str, StringConstraints(pattern=rf"^{CAMPAIGN_ID}$")]
PublisherCode = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


# Strict, or a date written as the number 20261104 would be read as seconds since 1970.
Instant = Annotated[AwareDatetime, Field(strict=True)]
YEAR_FIRST, YEAR_LAST = 2000, 2199  # beyond them a slip of the pen, and days that the calendar or the ledger lacks


class State(StrEnum):
    """Where a campaign is in its life; it only moves forward."""

    draft = "draft"
    published = "published"
    closed = "closed"
    sealed = "sealed"

    @property
    def is_over(self) -> bool:
        """Whether no more likes are taken, for good."""
        return self in (State.closed, State.sealed)


class Rules(BaseModel):
    """What a campaign file says. Times without an offset are in the campaign's time zone."""

    # Rules stored by a newer version may hold fields that this one does not know; a file may not (parse_rules).
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: CampaignId
    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
    opens: Instant
    closes: Instant
    timezone: str = "Asia/Shanghai"
    window: Literal["day", "campaign"] = "day"
    likes_per_window: int = Field(default=10, ge=1, le=LIKES_PER_WINDOW_MAX)
    voter_classes: tuple[Literal["device", "verified"], ...] = Field(default=("device",), min_length=1, max_length=2)
    results: Literal["live", "hidden"] = "live"
    shards: int = Field(default=8, ge=1, le=SHARDS_MAX)
    expected_voters: int = Field(default=1_000_000, ge=1, le=EXPECTED_VOTERS_MAX)
    publishers: tuple[PublisherCode, ...] = Field(default=(), max_length=PUBLISHERS_MAX)

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        if name not in _zone_names():
            raise ValueError(f"{name!r} is not a time zone; write one like Asia/Shanghai")
        return name

    @model_validator(mode="before")
    @classmethod
    def _local_times(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise ValueError("a campaign file holds `name: value` lines")
        zone_name = raw.get("timezone", "Asia/Shanghai")
        zone = ZoneInfo(zone_name) if isinstance(zone_name, str) and zone_name in _zone_names() else UTC
        return {name: _in_zone(value, zone) if name in ("opens", "closes") else value for name, value in raw.items()}

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if not all(YEAR_FIRST <= instant.year <= YEAR_LAST for instant in (self.opens, self.closes)):
            raise ValueError(f"opens and closes lie in the years {YEAR_FIRST} to {YEAR_LAST}")
        if self.closes <= self.opens:
            raise ValueError("closes must be later than opens")
        if (self.closes - self.opens).days > CAMPAIGN_DAYS_MAX:
            raise ValueError(f"a campaign lasts at most {CAMPAIGN_DAYS_MAX} days")
        if len(set(self.publishers)) != len(self.publishers):
            raise ValueError("publishers: the same code stands twice")
        return self

    @field_serializer("opens", "closes")
    def _times_in_zone(self, instant: datetime) -> str:
        return instant.astimezone(self.zone).isoformat()

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone whose midnights bound the windows."""
        return ZoneInfo(self.timezone)

    @property
    def opens_ms(self) -> int:
        """Unix milliseconds from which likes are taken."""
        return to_ms(self.opens)

    @property
    def closes_ms(self) -> int:
        """Unix milliseconds from which likes are refused."""
        return to_ms(self.closes)

    @property
    def buckets(self) -> int:
        """Mark hashes a shard keeps per window, so that each holds about a hundred voters."""
        return max(1, -(-self.expected_voters // (self.shards * VOTERS_PER_BUCKET)))

    def window_at(self, instant_ms: int) -> Window:
        """The voting window that holds an instant."""
        if self.window == "campaign":
            return campaign_window(self.opens, self.closes, self.zone)
        return day_window_at(instant_ms, self.zone)

    def window_on(self, day: date) -> Window:
        """The window that begins on a local date."""
        return self.window_at(self.opens_ms) if self.window == "campaign" else day_window(day, self.zone)

    def window_dates(self) -> list[date]:
        """The first local date of every window, one ledger partition each."""
        if self.window == "campaign":
            return [self.window_at(self.opens_ms).date]
        return list(days_between(self.opens, self.closes, self.zone))


def _in_zone(value: Any, zone: Any) -> Any:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, datetime):
        return value if value.tzinfo else _as_utc(value, zone)
    if isinstance(value, date):
        return _as_utc(datetime(value.year, value.month, value.day), zone)
    return value


# In UTC: two times of one zone compare by their wall clocks, and a time the clock skips or repeats equals no other.
def _as_utc(local: datetime, zone: Any) -> datetime:
    return from_ms(to_ms(local.replace(tzinfo=zone)))


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones())  # 2 ms to read from disk, and every read of a campaign checks its zone


def read_rules(path: Path) -> Rules:
    """Read a campaign file. Raises CampaignError that names every wrong line's field and what to write."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CampaignError(f"{path} cannot be read: {error.strerror}. Give the path of a campaign file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CampaignError(f"{path} is not YAML in UTF-8: {error}") from error
    return parse_rules(raw, str(path))


def parse_rules(raw: object, source: str) -> Rules:
    """Check the content of a campaign file. Raises CampaignError naming every problem."""
    try:
        return Rules.model_validate(raw, extra="forbid")
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc'])) or 'file'}: {p['msg']}" for p in error.errors())
        raise CampaignError(f"{source} is refused:\n  " + "\n  ".join(problems)) from error


# Fields whose change would give likes already cast another meaning, and why.
_FIXED = {
    "timezone": "the windows of likes already cast would move",
    "window": "likes already cast would fall into other windows",
    "likes_per_window": "voters who used the old quota would be treated unlike others",
    "shards": "a voter's earlier marks would not be found",
    "expected_voters": "a voter's earlier marks would not be found (it sizes the buckets)",
}


def refused_changes(old: Rules, new: Rules, at: datetime) -> list[str]:
    """Why `new` may not follow `old` in a published campaign at instant `at`; empty where it may."""
    reasons = [f"{name}: {why}" for name, why in _FIXED.items() if getattr(old, name) != getattr(new, name)]
    if new.opens != old.opens and (at >= old.opens or new.opens < at):
        reasons.append("opens: the opening can be moved only before it, and only into the future")
    if new.opens != old.opens and old.window == "campaign":
        reasons.append("opens: it names the window of a campaign-long window")
    if new.closes != old.closes and (at >= old.closes or new.closes < at):
        reasons.append("closes: the end can be moved only before it, and only into the future")
    if not set(old.voter_classes) <= set(new.voter_classes):
        reasons.append("voter_classes: likes of a class already allowed would become likes of nobody")
    if new.publishers[: len(old.publishers)] != old.publishers:
        reasons.append("publishers: add new ones at the end only; a like names its publisher by position")
    return reasons


class Document(BaseModel):
    """What the vote API knows of a campaign; one immutable version, published into the store as JSON."""

    model_config = ConfigDict(frozen=True)

    version: int
    state: State
    rules: Rules
    width: Literal[1, 2]
    candidates: tuple[str, ...]
    secret: str

    @cached_property
    def key(self) -> CampaignKey:
        """The campaign's keyed hashes."""
        return CampaignKey(bytes.fromhex(self.secret))

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Candidate code -> index; indexes start at 1 and never change."""
        return {code: index for index, code in enumerate(self.candidates, start=1)}

    @cached_property
    def allowed(self) -> frozenset[VoterClass]:
        """Voter classes whose likes are taken."""
        return frozenset(VoterClass[name] for name in self.rules.voter_classes)

    @cached_property
    def publisher_number(self) -> dict[str, int]:
        """Publisher code -> number in the ledger; 0 is the campaign's own page."""
        return {code: number for number, code in enumerate(self.rules.publishers, start=1)}


def next_width(published_width: int | None, candidates: int) -> int:
    """The index width; fixed at first publication, since marks already stored are of that width."""
    wanted = width_of(candidates)
    if published_width is None:
        return wanted
    if wanted > published_width:
        raise CampaignError("A campaign published with up to 255 candidates cannot grow past 255: start another one.")
    return published_width
