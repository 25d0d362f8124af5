"""A campaign: its rules, its life (draft, published, closed, sealed) and the document published into the store."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache, cached_property
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from dianzan.domain.limits import (
    CAMPAIGN_DAYS_MAX,
    EXPECTED_VOTERS_MAX,
    LIKES_PER_WINDOW_MAX,
    ORIGINS_PER_PUBLISHER_MAX,
    PUBLISHERS_MAX,
    SHARDS_MAX,
    TOKEN_LIFE_S,
    VOTERS_PER_BUCKET,
)
from dianzan.domain.shard import Shard
from dianzan.domain.voters import CampaignKey, Revocation, Voter, VoterClass
from dianzan.domain.windows import Window, campaign_window, day_window, day_window_at, days_between, from_ms, to_ms

CAMPAIGN_ID: Final = r"[a-z0-9][a-z0-9-]{0,31}"
CampaignId = Annotated[str, StringConstraints(pattern=rf"^{CAMPAIGN_ID}$")]
PublisherCode = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]{1,255}$")]


def _known_class(name: str) -> str:
    if name not in VoterClass.__members__:
        raise ValueError(f"{name!r} is no voter class; write one of {', '.join(VoterClass.__members__)}")
    return name


Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=120)]
Paragraphs = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4_000)]
VoterClassName = Annotated[str, AfterValidator(_known_class)]
# Strict, or a date written as the number 20261104 would be read as seconds since 1970.
Instant = Annotated[AwareDatetime, Field(strict=True)]
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
YEAR_FIRST, YEAR_LAST = 2000, 2199  # beyond them a slip of the pen, and days that the calendar or the ledger lacks


class State(StrEnum):
    """Where a campaign is in its life; it only moves forward."""

    draft = "draft"
    published = "published"
    closed = "closed"
    sealed = "sealed"

    @property
    def is_over(self) -> bool:
        """Whether likes are no longer taken, permanently."""
        return self in (State.closed, State.sealed)


class Publisher(BaseModel):
    """A media site that embeds the button. In a campaign file its code alone will do."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: PublisherCode
    name: str = Field(default="", max_length=120)
    origins: tuple[Origin, ...] = Field(default=(), max_length=ORIGINS_PER_PUBLISHER_MAX)

    @model_validator(mode="before")
    @classmethod
    def _code_alone(cls, raw: Any) -> Any:
        return {"code": raw} if isinstance(raw, str) else raw

    @model_serializer(mode="wrap")
    def _code_alone_again(self, whole: SerializerFunctionWrapHandler) -> Any:
        return whole(self) if self.name or self.origins else self.code


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
    voter_classes: tuple[VoterClassName, ...] = Field(default=(VoterClass.device.name,), min_length=1)
    results: Literal["live", "hidden"] = "live"
    shards: int = Field(default=8, ge=1, le=SHARDS_MAX)
    expected_voters: int = Field(default=1_000_000, ge=1, le=EXPECTED_VOTERS_MAX)
    publishers: tuple[Publisher, ...] = Field(default=(), max_length=PUBLISHERS_MAX)
    # What the page tells the public beside the candidates; nothing depends on it.
    title_en: Line = ""
    brand: Line = ""
    brand_en: Line = ""
    introduction: Paragraphs = ""
    how_to_like: Paragraphs = ""
    organiser: Line = ""
    contact: Line = ""
    icp_number: Line = ""
    privacy: Paragraphs = ""

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
        if len(set(self.publisher_codes)) != len(self.publishers):
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
    def publisher_codes(self) -> tuple[str, ...]:
        """The publishers' codes, in the order of the file."""
        return tuple(publisher.code for publisher in self.publishers)

    @cached_property
    def every_shard(self) -> tuple[Shard, ...]:
        """The campaign's shards by their numbers."""
        return tuple(Shard(self.id, number) for number in range(self.shards))

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

    @cached_property
    def token_life_s(self) -> float:
        """Seconds for which a voter token is taken from its making on: past the end of the window it was made in."""
        whole = self.closes - self.opens if self.window == "campaign" else timedelta(0)
        return whole.total_seconds() + TOKEN_LIFE_S

    def window_at(self, instant_ms: int) -> Window:
        """The voting window that holds an instant."""
        if self.window == "campaign":
            return campaign_window(self.opens, self.closes, self.zone)
        return self._last_without_reset(day_window_at(instant_ms, self.zone))

    def _last_without_reset(self, window: Window) -> Window:
        return replace(window, resets_at=None) if window.end_ms >= self.closes_ms else window

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
        if not _MOMENT.fullmatch(value):
            return value  # fromisoformat reads weeks too, and 2026-12-20-08:00 as a time of day
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


class Document(BaseModel):
    """What the vote API knows of a campaign; one immutable version, published into the store as JSON."""

    model_config = ConfigDict(frozen=True)

    version: int
    state: State
    rules: Rules
    width: Literal[1, 2]
    candidates: tuple[str, ...]
    secret: str
    # Publisher code -> number in the ledger. Empty in documents of before, which number them by their place.
    publishers: dict[str, int] = {}
    revocations: tuple[Revocation, ...] = ()

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

    def voter_of(self, token: str, now_s: float) -> Voter:
        """The voter whose token this is, without I/O. Raises TokenInvalid, TokenRevoked or TokenExpired."""
        return self.key.read_token(token, now_s, self.rules.token_life_s, self.revocations)

    def open_at(self, at_ms: int) -> bool:
        """Whether likes of this instant are taken."""
        return self.state is State.published and self.rules.opens_ms <= at_ms < self.rules.closes_ms

    @cached_property
    def publisher_number(self) -> dict[str, int]:
        """Publisher code -> number in the ledger; 0 is the campaign's own page."""
        by_place = {code: number for number, code in enumerate(self.rules.publisher_codes, start=1)}
        return self.publishers or by_place

    @cached_property
    def publisher_code(self) -> dict[int, str]:
        """Number in the ledger -> publisher code."""
        return {number: code for code, number in self.publisher_number.items()}
