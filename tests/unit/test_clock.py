"""Voting windows: every instant is in exactly one day, in every time zone and at every change of clocks."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dianzan.domain.windows import (
    EPOCH,
    campaign_window,
    day_window,
    day_window_at,
    days_between,
    from_ms,
    now_ms,
    to_ms,
)

MINUTE_MS = 60_000
DAY_MS = 86_400_000
YEAR_2000_MS = to_ms(datetime(2000, 1, 1, tzinfo=UTC))
YEAR_2200_MS = to_ms(datetime(2200, 1, 1, tzinfo=UTC))

# A zone, an instant at which its clocks change, and why it stands here.
CHANGES = [
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),  # the 30th of December is skipped whole
    ("America/Havana", "2026-11-01T05:00:00Z"),  # midnight comes twice
    ("America/Havana", "2026-03-08T05:00:00Z"),  # no midnight
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),  # no midnight
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),  # 24:00 becomes 23:00: the last hour comes twice
    ("America/Goose_Bay", "2010-11-07T03:01:00Z"),  # a minute past midnight becomes yesterday
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),  # half an hour
]

zones = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)
STEADY = ["Asia/Shanghai", "Asia/Kolkata", "Pacific/Kiritimati"]
named_zones = st.sampled_from([*STEADY, *sorted({name for name, _ in CHANGES})]).map(ZoneInfo)
any_zone = st.one_of(named_zones, zones)
# The years a campaign may lie in; the 40 minutes Kiritimati lived twice in 1994 are before them.
days = st.dates(date(2000, 1, 1), date(2199, 12, 31))
instants = st.integers(YEAR_2000_MS, YEAR_2200_MS)
# An instant within 26 hours of a change of clocks, with the zone that has it.
near_changes = st.builds(
    lambda change, offset_ms: (ZoneInfo(change[0]), to_ms(datetime.fromisoformat(change[1])) + offset_ms),
    st.sampled_from(CHANGES),
    st.integers(-26 * 60, 26 * 60).map(lambda minutes: minutes * MINUTE_MS) | st.integers(-2, 2),
)
# An instant within three hours of a midnight.
near_midnights = st.builds(
    lambda zone, day, offset_ms: (zone, day_window(day, zone).start_ms + offset_ms),
    any_zone,
    days,
    st.integers(-180 * MINUTE_MS, 180 * MINUTE_MS) | st.integers(-2, 2),
)
moments = st.one_of(near_changes, near_midnights, st.tuples(any_zone, instants))


def ms(text: str) -> int:
    return to_ms(datetime.fromisoformat(text))


@given(moments)
@example((ZoneInfo("Pacific/Apia"), ms("2011-12-30T09:59:59.999Z")))
@example((ZoneInfo("Pacific/Apia"), ms("2011-12-30T10:00:00Z")))
@example((ZoneInfo("America/Goose_Bay"), ms("2010-11-07T03:01:00Z")))
def test_every_instant_is_in_exactly_one_window(moment: tuple[ZoneInfo, int]) -> None:
    zone, instant_ms = moment
    found = day_window_at(instant_ms, zone)
    around = [day_window(found.date + timedelta(days=distance), zone) for distance in range(-3, 4)]
    assert [window for window in around if window.start_ms <= instant_ms < window.end_ms] == [found]


@given(any_zone, days)
@example(ZoneInfo("Pacific/Apia"), date(2011, 12, 29))
@example(ZoneInfo("Pacific/Apia"), date(2011, 12, 30))
def test_windows_of_consecutive_days_leave_no_gap_and_do_not_overlap(zone: ZoneInfo, day: date) -> None:
    window, following = day_window(day, zone), day_window(day + timedelta(days=1), zone)
    assert window.end_ms == following.start_ms
    assert window.start_ms <= window.end_ms
    assert window.date == day
    assert following.day == window.day + 1


@given(moments)
def test_a_window_is_the_local_date_but_for_a_day_of_changing_clocks(moment: tuple[ZoneInfo, int]) -> None:
    zone, instant_ms = moment
    window = day_window_at(instant_ms, zone)
    if window.end_ms - window.start_ms == DAY_MS and not _clocks_change_near(instant_ms, zone):
        assert window.date == datetime.fromtimestamp(instant_ms // 1000, zone).date()
        assert datetime.fromtimestamp(window.start_ms / 1000, zone).time() == datetime.min.time()


def _clocks_change_near(instant_ms: int, zone: ZoneInfo) -> bool:
    offsets = {from_ms(instant_ms + hours * 3_600_000).astimezone(zone).utcoffset() for hours in range(-27, 28)}
    return len(offsets) > 1


@given(moments)
def test_resets_at_is_the_end_as_a_client_reads_it(moment: tuple[ZoneInfo, int]) -> None:
    zone, instant_ms = moment
    window = day_window_at(instant_ms, zone)
    assert ms(str(window.resets_at)) == window.end_ms


@pytest.mark.parametrize(
    ("zone", "instant", "day"),
    [
        ("Asia/Shanghai", "2026-11-23T15:59:59.999Z", "2026-11-23"),
        ("Asia/Shanghai", "2026-11-23T16:00:00.000Z", "2026-11-24"),
        ("Asia/Shanghai", "2026-11-30T15:59:59.999Z", "2026-11-30"),
        ("Asia/Shanghai", "2026-11-30T16:00:00.000Z", "2026-12-01"),
        ("Asia/Shanghai", "2026-12-31T15:59:59.999Z", "2026-12-31"),
        ("Asia/Shanghai", "2026-12-31T16:00:00.000Z", "2027-01-01"),
        ("Asia/Shanghai", "2028-02-28T16:00:00.000Z", "2028-02-29"),
        ("Asia/Shanghai", "2028-02-29T16:00:00.000Z", "2028-03-01"),
        ("UTC", "2026-12-31T23:59:59.999Z", "2026-12-31"),
        ("UTC", "2027-01-01T00:00:00.000Z", "2027-01-01"),
        ("Asia/Kolkata", "2026-12-31T18:29:59.999Z", "2026-12-31"),
        ("Asia/Kolkata", "2026-12-31T18:30:00.000Z", "2027-01-01"),
        ("Pacific/Kiritimati", "2026-12-31T09:59:59.999Z", "2026-12-31"),
        ("Pacific/Kiritimati", "2026-12-31T10:00:00.000Z", "2027-01-01"),
        ("America/New_York", "2027-01-01T04:59:59.999Z", "2026-12-31"),
        ("America/New_York", "2027-01-01T05:00:00.000Z", "2027-01-01"),
        ("America/Havana", "2026-11-01T03:59:59.999Z", "2026-10-31"),
        ("America/Havana", "2026-11-01T04:00:00.000Z", "2026-11-01"),  # the first of two midnights
        ("America/Havana", "2026-11-01T05:00:00.000Z", "2026-11-01"),  # the second begins nothing
        ("America/Sao_Paulo", "2018-02-18T02:30:00.000Z", "2018-02-17"),  # 23:30 for the second time
        ("America/Sao_Paulo", "2018-11-04T02:59:59.999Z", "2018-11-03"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00.000Z", "2018-11-04"),  # 01:00, there was no midnight
        ("America/Goose_Bay", "2010-11-07T03:00:30.000Z", "2010-11-07"),
        ("America/Goose_Bay", "2010-11-07T03:01:00.000Z", "2010-11-07"),  # the wall says the 6th again
        ("America/Toronto", "1919-03-31T04:45:00.000Z", "1919-03-30"),  # 23:30 became 00:30: before the midnight
        ("Pacific/Apia", "2011-12-30T09:59:59.999Z", "2011-12-29"),
        ("Pacific/Apia", "2011-12-30T10:00:00.000Z", "2011-12-31"),
    ],
)
def test_the_day_of_an_instant(zone: str, instant: str, day: str) -> None:
    assert day_window_at(ms(instant), ZoneInfo(zone)).date.isoformat() == day


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("Asia/Shanghai", date(2026, 11, 24), "2026-11-23T16:00:00Z", 24),
        ("America/New_York", date(2026, 3, 8), "2026-03-08T05:00:00Z", 23),
        ("America/New_York", date(2026, 11, 1), "2026-11-01T04:00:00Z", 25),
        ("Australia/Lord_Howe", date(2026, 4, 5), "2026-04-04T13:00:00Z", 24.5),
        ("Australia/Lord_Howe", date(2026, 10, 4), "2026-10-03T13:30:00Z", 23.5),
        ("America/Havana", date(2026, 11, 1), "2026-11-01T04:00:00Z", 25),
        ("America/Havana", date(2026, 3, 8), "2026-03-08T05:00:00Z", 23),
        ("America/Sao_Paulo", date(2018, 2, 17), "2018-02-17T02:00:00Z", 25),
        ("America/Sao_Paulo", date(2018, 11, 4), "2018-11-04T03:00:00Z", 23),
        ("Pacific/Apia", date(2011, 12, 29), "2011-12-29T10:00:00Z", 24),
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00:00Z", 0),
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30T10:00:00Z", 24),
    ],
)
def test_the_span_of_a_day(zone: str, day: date, start: str, hours: float) -> None:
    window = day_window(day, ZoneInfo(zone))
    assert (window.start_ms, (window.end_ms - window.start_ms) / 3_600_000) == (ms(start), hours)


def test_resets_at_is_written_in_the_campaigns_time_zone() -> None:
    assert day_window(date(2026, 11, 23), ZoneInfo("Asia/Shanghai")).resets_at == "2026-11-24T00:00:00+08:00"


@pytest.mark.parametrize(
    ("opens", "closes", "expected"),
    [
        ("2026-11-04T00:00+08:00", "2026-11-24T00:00+08:00", ["2026-11-04", "2026-11-23", 20]),
        ("2026-11-04T09:00+08:00", "2026-11-23T21:00+08:00", ["2026-11-04", "2026-11-23", 20]),
        ("2026-11-04T23:59:59.999+08:00", "2026-11-05T00:00+08:00", ["2026-11-04", "2026-11-04", 1]),
        ("2026-11-04T23:59:59.999+08:00", "2026-11-05T00:00:00.001+08:00", ["2026-11-04", "2026-11-05", 2]),
        ("2026-11-04T16:00Z", "2026-11-05T16:00Z", ["2026-11-05", "2026-11-05", 1]),
        ("2026-12-31T12:00+08:00", "2027-01-01T12:00+08:00", ["2026-12-31", "2027-01-01", 2]),
        ("2028-02-28T12:00+08:00", "2028-03-01T12:00+08:00", ["2028-02-28", "2028-03-01", 3]),
    ],
)
def test_the_days_of_a_campaign(opens: str, closes: str, expected: list[str | int]) -> None:
    zone = ZoneInfo("Asia/Shanghai")
    found = [
        day.isoformat() for day in days_between(datetime.fromisoformat(opens), datetime.fromisoformat(closes), zone)
    ]
    assert [found[0], found[-1], len(found)] == expected
    assert found == sorted(set(found))


def test_the_window_of_a_whole_campaign_is_from_opens_to_closes() -> None:
    opens, closes = datetime(2026, 11, 3, 16, tzinfo=UTC), datetime(2026, 11, 23, 13, tzinfo=UTC)
    window = campaign_window(opens, closes, ZoneInfo("Asia/Shanghai"))
    assert (window.date, window.start_ms, window.end_ms) == (date(2026, 11, 4), to_ms(opens), to_ms(closes))
    assert window.resets_at is None


@given(st.integers(0, YEAR_2200_MS))
def test_milliseconds_survive_the_way_to_a_datetime_and_back(instant_ms: int) -> None:
    assert to_ms(from_ms(instant_ms)) == instant_ms


def test_now_is_in_milliseconds_and_days_count_from_1970() -> None:
    assert abs(now_ms() - to_ms(datetime.now(UTC))) < 1_000
    assert date(1970, 1, 1) == EPOCH
