"""Rules of a campaign: what a file may say, which changes are refused once likes are cast, and where a like belongs."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import dianzan
from dianzan.domain import limits, wire
from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.campaign_file import parse_rules, read_rules
from dianzan.domain.changes import next_width, refused_changes
from dianzan.domain.errors import CampaignError
from dianzan.domain.voters import VoterClass
from dianzan.domain.windows import from_ms, to_ms

GOOD = {"id": "a", "title": "为榜样点赞", "opens": "2026-11-04", "closes": "2026-11-24"}
DEMO = Path(dianzan.__file__).parent / "local" / "demo" / "campaign.yaml"


def rules(**changes: Any) -> Rules:
    return parse_rules({**GOOD, **changes}, "the file")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# ---- the file -------------------------------------------------------------------------------------------------------


def test_what_a_file_need_not_say() -> None:
    found = rules()
    assert (found.timezone, found.window, found.results) == ("Asia/Shanghai", "day", "live")
    assert (found.likes_per_window, found.shards, found.voter_classes) == (10, 8, ("device",))


@pytest.mark.parametrize(
    ("changes", "opens"),
    [
        pytest.param({"opens": "2026-11-04"}, "2026-11-03T16:00:00+00:00", id="a day"),
        pytest.param({"opens": date(2026, 11, 4)}, "2026-11-03T16:00:00+00:00", id="a day as YAML reads it"),
        pytest.param({"opens": "2026-11-04 09:30"}, "2026-11-04T01:30:00+00:00", id="a local time"),
        pytest.param({"opens": datetime(2026, 11, 4, 9)}, "2026-11-04T01:00:00+00:00", id="a local time from YAML"),
        pytest.param({"opens": "2026-11-04T09:00Z"}, "2026-11-04T09:00:00+00:00", id="an instant"),
        pytest.param({"opens": "2026-11-04T09:00-05:00"}, "2026-11-04T14:00:00+00:00", id="with an offset"),
        pytest.param({"timezone": "Asia/Kolkata"}, "2026-11-03T18:30:00+00:00", id="a day elsewhere"),
        pytest.param(
            {"opens": "2018-11-04", "closes": "2018-11-10", "timezone": "America/Sao_Paulo"},
            "2018-11-04T03:00:00+00:00",
            id="a day without a midnight",
        ),
        pytest.param(
            {"opens": "2026-11-01T01:30", "timezone": "America/New_York"},
            "2026-11-01T05:30:00+00:00",
            id="a time that comes twice is the first",
        ),
    ],
)
def test_when_a_campaign_opens(changes: dict[str, Any], opens: str) -> None:
    assert from_ms(rules(**changes).opens_ms).isoformat() == opens


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"id": "A"}, "id:"),
        ({"id": "a b"}, "id:"),
        ({"id": "-a"}, "id:"),
        ({"id": "a" * 33}, "id:"),
        ({"id": "a\n"}, "id:"),
        ({"id": ""}, "id:"),
        ({"title": ""}, "title:"),
        ({"title": " \u3000 "}, "title:"),
        ({"title": "t" * 121}, "title:"),
        ({"opens": None}, "opens:"),
        ({"opens": "soon"}, "opens:"),
        ({"opens": 20261104}, "opens:"),
        ({"opens": "1795449600"}, "opens:"),
        ({"opens": True}, "opens:"),
        ({"closes": "2026-11-31"}, "closes:"),
        ({"closes": "2026-11-04"}, "closes must be later"),
        ({"closes": "2026-11-03T23:59:59"}, "closes must be later"),
        ({"opens": "1999-12-01"}, "2000 to 2199"),
        ({"opens": "0001-01-01", "closes": "0001-01-02"}, "file:"),
        ({"opens": "9999-12-30", "closes": "9999-12-31"}, "2000 to 2199"),
        ({"closes": "2028-11-04"}, f"at most {limits.CAMPAIGN_DAYS_MAX} days"),
        ({"timezone": "Beijing"}, "Asia/Shanghai"),
        ({"timezone": ""}, "time zone"),
        ({"timezone": "../../etc/passwd"}, "time zone"),
        ({"timezone": ["Asia/Shanghai"]}, "timezone:"),
        ({"timezone": 8}, "timezone:"),
        ({"window": "week"}, "window:"),
        ({"likes_per_window": 0}, "likes_per_window:"),
        ({"likes_per_window": limits.LIKES_PER_WINDOW_MAX + 1}, "likes_per_window:"),
        ({"likes_per_window": 2.5}, "likes_per_window:"),
        ({"voter_classes": []}, "voter_classes:"),
        ({"voter_classes": ["robot"]}, "voter_classes.0:"),
        ({"results": "secret"}, "results:"),
        ({"shards": 0}, "shards:"),
        ({"shards": limits.SHARDS_MAX + 1}, "shards:"),
        ({"expected_voters": 0}, "expected_voters:"),
        ({"expected_voters": limits.EXPECTED_VOTERS_MAX + 1}, "expected_voters:"),
        ({"publishers": ["a", "b", "a"]}, "publishers:"),
        ({"publishers": ["A"]}, "publishers.0.code:"),
        ({"likes_per_widnow": 5}, "likes_per_widnow:"),
    ],
)
def test_a_wrong_line_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(CampaignError, match="the file is refused") as caught:
        rules(**changes)
    assert named in str(caught.value)


def test_every_wrong_line_is_named_at_once() -> None:
    with pytest.raises(CampaignError) as caught:
        rules(id="A", shards=0, window="week")
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize("raw", [None, [], "text", 7, {}, {1: 2}, {None: None}])
def test_a_file_of_another_shape_is_refused(raw: object) -> None:
    with pytest.raises(CampaignError, match="the file is refused"):
        parse_rules(raw, "the file")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.datetimes() | st.dates(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(sorted(Rules.model_fields)), json_values, max_size=4))
@example({"opens": datetime.max})
@example({"closes": datetime.min})
@example({"closes": date.max, "timezone": "America/New_York"})
def test_any_values_give_rules_or_a_refusal(changes: dict[str, Any]) -> None:
    try:
        found = rules(**changes)
    except CampaignError:
        return
    assert found.window_dates()


def test_a_missing_or_broken_file_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="cannot be read"):
        read_rules(tmp_path / "none.yaml")
    for content in (b"id: [", b"\xff\xfe\xfa", b"id: !!python/object:os.system x"):
        (tmp_path / "broken.yaml").write_bytes(content)
        with pytest.raises(CampaignError, match=r"broken\.yaml is not YAML in UTF-8"):
            read_rules(tmp_path / "broken.yaml")


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    text = "".join(f"{name}: {value}\n" for name, value in GOOD.items())
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "campaign.yaml").write_text(text, encoding=encoding)
        assert read_rules(tmp_path / "campaign.yaml") == rules()


def test_the_demo_file_lacks_only_its_times(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(
        DEMO.read_text(encoding="utf-8") + "\nopens: 2026-11-04\ncloses: 2026-11-24 21:00:00\n", encoding="utf-8"
    )
    assert from_ms(read_rules(tmp_path / "demo.yaml").closes_ms) == at("2026-11-24T13:00Z")


# ---- windows --------------------------------------------------------------------------------------------------------


spans = st.tuples(
    st.sampled_from(sorted(available_timezones())),
    st.datetimes(datetime(2000, 1, 2), datetime(2197, 1, 1)),
    st.timedeltas(timedelta(milliseconds=1), timedelta(days=40)),
    st.floats(0, 1, exclude_max=True),
)


@given(spans)
@example(("Pacific/Apia", datetime(2011, 12, 29), timedelta(days=4), 0.3))
@example(("America/Havana", datetime(2026, 11, 1, 4), timedelta(hours=2), 0.9))
@example(("America/Goose_Bay", datetime(2010, 11, 7, 3, 1), timedelta(minutes=2), 0.5))
@example(("Asia/Shanghai", datetime(2026, 11, 23, 15, 59, 59, 999_000), timedelta(milliseconds=2), 0.9))
def test_every_like_of_a_campaign_has_a_partition_and_no_partition_is_in_vain(
    span: tuple[str, datetime, timedelta, float],
) -> None:
    zone, opens, length, part = span
    opens = opens.replace(microsecond=0, tzinfo=UTC)
    found = rules(timezone=zone, opens=opens, closes=opens + length)
    dates = found.window_dates()
    last_ms = max(found.opens_ms, found.closes_ms - 1)
    liked_ms = found.opens_ms + int((last_ms - found.opens_ms) * part)
    assert found.window_at(liked_ms).date in dates
    assert (dates[0], dates[-1]) == (found.window_at(found.opens_ms).date, found.window_at(last_ms).date)
    assert dates == [dates[0] + timedelta(days=n) for n in range(len(dates))]
    assert all(found.window_on(day).date == day for day in dates)


def test_a_whole_campaign_is_one_window() -> None:
    found = rules(window="campaign")
    assert found.window_dates() == [date(2026, 11, 4)]
    windows = {found.window_at(ms) for ms in (found.opens_ms, to_ms(at("2026-11-15T00:00Z")), found.closes_ms - 1)}
    assert windows == {found.window_on(date(2026, 11, 9))}
    assert windows.pop().resets_at is None


def test_every_day_but_the_last_says_when_the_next_begins() -> None:
    found = rules(closes=at("2026-11-23T10:00Z"))
    day_before, last = found.window_at(found.closes_ms - 86_400_000), found.window_at(found.closes_ms - 1)
    assert day_before.resets_at == "2026-11-23T00:00:00+08:00"
    assert last.resets_at is None


@pytest.mark.parametrize(
    ("expected_voters", "shards", "buckets"),
    [
        (1, 1, 1),
        (100, 1, 1),
        (101, 1, 2),
        (1, 256, 1),
        (1_000_000, 8, 1_250),
        (1_000_001, 8, 1_251),
        (limits.EXPECTED_VOTERS_MAX, 1, 20_000_000),
    ],
)
def test_a_bucket_holds_about_a_hundred_voters(expected_voters: int, shards: int, buckets: int) -> None:
    assert rules(expected_voters=expected_voters, shards=shards).buckets == buckets


# ---- changes of a published campaign --------------------------------------------------------------------------------

BEFORE, DURING, AFTER = "2026-11-01T00:00Z", "2026-11-10T00:00Z", "2026-11-30T00:00Z"
SITES = {"publishers": ["bjd", "btv"]}


@pytest.mark.parametrize(
    ("old", "new", "now", "refused"),
    [
        ({}, {}, BEFORE, []),
        ({}, {}, DURING, []),
        ({}, {}, AFTER, []),
        ({}, {"title": "另一个标题"}, DURING, []),
        ({}, {"results": "hidden"}, DURING, []),
        (
            {},
            {"timezone": "Asia/Tokyo", "opens": "2026-11-04T01:00", "closes": "2026-11-24T01:00"},
            BEFORE,
            ["timezone"],
        ),
        ({}, {"window": "campaign"}, BEFORE, ["window"]),
        ({}, {"likes_per_window": 11}, DURING, ["likes_per_window"]),
        ({}, {"shards": 16}, BEFORE, ["shards"]),
        ({}, {"expected_voters": 2_000_000}, BEFORE, ["expected_voters"]),
        (
            {},
            {"shards": 16, "window": "campaign", "likes_per_window": 1},
            DURING,
            ["window", "likes_per_window", "shards"],
        ),
        ({}, {"opens": "2026-11-05"}, BEFORE, []),
        ({}, {"opens": "2026-11-02"}, BEFORE, []),
        ({}, {"opens": "2026-10-31"}, BEFORE, ["opens"]),
        ({}, {"opens": "2026-11-03"}, DURING, ["opens"]),
        ({}, {"opens": "2026-11-15"}, DURING, ["opens"]),
        ({}, {"opens": "2026-11-05"}, "2026-11-04T00:00+08:00", ["opens"]),
        ({}, {"opens": "2026-11-05"}, "2026-11-03T23:59:59+08:00", []),
        ({}, {"opens": "2026-11-03T16:00Z"}, DURING, []),  # the same instant in other words
        ({"window": "campaign"}, {"window": "campaign", "opens": "2026-11-05"}, BEFORE, ["opens"]),
        ({}, {"closes": "2026-11-26"}, DURING, []),
        ({}, {"closes": "2026-11-12"}, DURING, []),
        ({}, {"closes": "2026-11-09"}, DURING, ["closes"]),
        ({}, {"closes": "2026-12-10"}, AFTER, ["closes"]),
        ({}, {"closes": "2026-11-26"}, "2026-11-24T00:00+08:00", ["closes"]),
        ({}, {"voter_classes": ["device", "verified"]}, DURING, []),
        ({}, {"voter_classes": ["verified"]}, DURING, ["voter_classes"]),
        ({"voter_classes": ["device", "verified"]}, {"voter_classes": ["verified", "device"]}, DURING, []),
        ({"voter_classes": ["device", "verified"]}, {"voter_classes": ["verified"]}, DURING, ["voter_classes"]),
        ({}, SITES, DURING, []),
        (SITES, {"publishers": ["bjd", "btv", "weibo"]}, DURING, []),
        (SITES, {"publishers": ["bjd"]}, DURING, ["publishers"]),
        (SITES, {"publishers": ["btv", "bjd"]}, DURING, []),
        (SITES, {"publishers": ["weibo", "bjd", "btv"]}, DURING, []),
    ],
)
def test_a_change_that_gives_likes_another_meaning_is_refused(
    old: dict[str, Any], new: dict[str, Any], now: str, refused: list[str]
) -> None:
    reasons = refused_changes(rules(**old), rules(**new), at(now))
    assert [reason.partition(":")[0] for reason in reasons] == refused


def test_the_unchanged_file_of_a_campaign_is_never_a_change_even_at_a_time_that_comes_twice() -> None:
    found = rules(opens="2026-11-01T01:30", timezone="America/New_York")
    stored = Rules.model_validate_json(found.model_dump_json())
    assert refused_changes(stored, found, at(DURING)) == []


# ---- what the vote API knows ----------------------------------------------------------------------------------------


def document(**changes: Any) -> Document:
    known = {"version": 3, "state": "published", "rules": rules(**changes), "width": 1, "candidates": ("c01", "c02")}
    return Document.model_validate({**known, "secret": "ab" * 32})


def test_a_document_survives_the_store() -> None:
    sent = document(publishers=["bjd"], window="campaign", voter_classes=["device", "verified"])
    assert Document.model_validate_json(sent.model_dump_json()) == sent


def test_indexes_start_at_one_and_zero_is_the_campaigns_own_page() -> None:
    found = document(publishers=["bjd", "btv"], voter_classes=["verified"])
    assert found.index_of == {"c01": 1, "c02": 2}
    assert found.publisher_number == {"bjd": 1, "btv": 2}
    assert found.allowed == {VoterClass.verified}
    assert found.key.receipt(1, 1, bytes(16)) == document().key.receipt(1, 1, bytes(16))


@pytest.mark.parametrize(
    ("published", "candidates", "width"),
    [(None, 1, 1), (None, 255, 1), (None, 256, 2), (1, 255, 1), (2, 1, 2), (2, 5_000, 2)],
)
def test_the_width_is_fixed_when_a_campaign_is_published(published: int | None, candidates: int, width: int) -> None:
    assert next_width(published, candidates) == width
    assert width >= wire.width_of(candidates)


def test_a_campaign_of_one_byte_indexes_cannot_outgrow_them() -> None:
    with pytest.raises(CampaignError, match="255"):
        next_width(1, 256)


def test_a_life_only_moves_forward() -> None:
    assert list(State) == ["draft", "published", "closed", "sealed"]


def test_time_zones_are_loaded_by_name() -> None:
    assert rules(timezone="Africa/Casablanca").zone == ZoneInfo("Africa/Casablanca")
