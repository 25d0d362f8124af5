"""Documents of the results API: right numbers when they are public, and not a trace of them while they are hidden."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dianzan.domain.campaign import State
from dianzan.domain.campaign_file import parse_rules
from dianzan.ledger.records import Seal, StoredCampaign, Tally
from dianzan.roster.candidates import Candidate
from results_api.rendered import Rendered
from results_api.view import Numbers, Published, numbers_of, render

OPENS = datetime(2026, 11, 3, 16, tzinfo=UTC)
AS_OF = datetime(2026, 11, 20, 4, tzinfo=UTC)
# Numbers that occur nowhere else in a document.
TALLY = {0: Tally(0, 71_171), 1: Tally(31_131, 21_121), 2: Tally(81_181, 51_151), 3: Tally(31_131, 11_111)}
HOURS = [(OPENS + timedelta(hours=n), 91_191 + n) for n in range(26)]


def stored(results: str = "live", state: State = State.published, **changes: Any) -> StoredCampaign:
    known = {"id": "a", "title": "为榜样点赞", "opens": "2026-11-04", "closes": "2026-11-24", "results": results}
    rules = parse_rules({**known, **changes}, "the test's campaign")
    return StoredCampaign(1, rules, 1, state, 1, bytes(32), None)


def roster(names: Mapping[int, str] | None = None) -> dict[int, Candidate]:
    """Three candidates whose codes are not in the order of their indexes."""
    codes = {1: "c02", 2: "c03", 3: "c01"}
    names = names or {1: "安然", 2: "志愿服务队", 3: "Bo"}
    return {i: Candidate(codes[i], names[i], "person", "东城区", "环保", "简介", f"事迹 {i}", "") for i in codes}


def published(
    of: StoredCampaign | None = None,
    tally: Mapping[int, Tally] = TALLY,
    *,
    seal: Seal | None = None,
    names: Mapping[int, str] | None = None,
    as_of: datetime = AS_OF,
) -> Published:
    campaign = of or stored()
    candidates = roster(names)
    numbers = dataclasses.replace(numbers_of(campaign, seal, candidates, tally, as_of), as_of=as_of)
    hours = None if numbers.by_index is None else HOURS
    return render(campaign, candidates, numbers, hours, tally)


def everything(found: Published) -> dict[str, Rendered]:
    return {"summary": found.summary, "event": found.event, **found.documents, **found.candidates}


def bodies(found: Published) -> dict[str, bytes]:
    """Every document of a campaign by name."""
    return {name: rendered.body for name, rendered in everything(found).items()}


def etags(found: Published) -> dict[str, str]:
    return {name: rendered.etag for name, rendered in everything(found).items()}


def ranks(found: Published) -> list[tuple[Any, ...]]:
    rows = json.loads(found.documents["results"].body)["results"]
    return [(row["rank"], row["code"], row["likes"], row["people"]) for row in rows]


def rows_of(table: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table.decode("utf-8-sig"))))


# ---- hidden ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.published, State.closed])
@pytest.mark.parametrize("tally", [TALLY, {}, {0: Tally(0, 3), 3: Tally(3, 3)}], ids=["many", "none", "few"])
def test_hidden_documents_are_the_same_whatever_the_numbers_are(state: State, tally: Mapping[int, Tally]) -> None:
    campaign = stored("hidden", state)
    other = {0: Tally(0, 5), 2: Tally(5, 5), 1: Tally(4, 4)}
    assert bodies(published(campaign, tally)) == bodies(published(campaign, other))
    assert etags(published(campaign, tally)) == etags(published(campaign, other))


@given(st.dictionaries(st.integers(0, 3), st.builds(Tally, st.integers(0, 10**6), st.integers(0, 10**6))))
def test_no_tally_shows_through_what_is_hidden(tally: dict[int, Tally]) -> None:
    assert bodies(published(stored("hidden"), tally)) == bodies(published(stored("hidden"), {}))


def test_hidden_rows_stand_by_code_and_hold_no_number() -> None:
    found = published(stored("hidden"))
    assert found.hidden
    assert ranks(found) == [(None, "c01", None, None), (None, "c02", None, None), (None, "c03", None, None)]
    assert list(found.candidates) == ["c01", "c02", "c03"]
    assert rows_of(found.documents["tally.csv"].body)[1:] == [
        ["", "c01", "Bo", "", ""],
        ["", "c02", "安然", "", ""],
        ["", "c03", "志愿服务队", "", ""],
    ]


@pytest.mark.parametrize(
    ("document", "hidden"),
    [
        ("event", {"counts": {}, "likes": None, "people": None, "people_estimated": False, "sealed": False}),
        ("timeline", {"campaign": "a", "timezone": "Asia/Shanghai", "hours": None, "days": None}),
    ],
)
def test_a_hidden_side_document_says_nothing(document: str, hidden: dict[str, Any]) -> None:
    found = json.loads(bodies(published(stored("hidden")))[document])
    found.pop("as_of", None)
    found.pop("version", None)
    assert found == hidden


def test_totals_are_hidden_too() -> None:
    for document in ("results", "tally.json"):
        found = json.loads(bodies(published(stored("hidden")))[document])
        assert (found["likes"], found["people"], found["people_estimated"]) == (None, None, False)


def test_hidden_results_are_shown_when_sealed() -> None:
    seal = Seal(AS_OF, 143_443, 71_171, {1: (2, TALLY[1]), 2: (1, TALLY[2]), 3: (2, TALLY[3])})
    found = published(stored("hidden", State.sealed), seal=seal)
    assert not found.hidden
    assert ranks(found)[0] == (1, "c03", 81_181, 51_151)


# ---- public ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likes", "expected"),
    [
        pytest.param({}, [(None, "c01"), (None, "c02"), (None, "c03")], id="no likes"),
        pytest.param({1: 5, 2: 9, 3: 7}, [(1, "c03"), (2, "c01"), (3, "c02")], id="all differ"),
        pytest.param({1: 5, 2: 9, 3: 5}, [(1, "c03"), (2, "c01"), (2, "c02")], id="two second, by code"),
        pytest.param({1: 5, 2: 1, 3: 5}, [(1, "c01"), (1, "c02"), (3, "c03")], id="two lead"),
        pytest.param({2: 1}, [(1, "c03"), (2, "c01"), (2, "c02")], id="two without likes"),
        pytest.param({1: 10, 2: 9, 3: 100}, [(1, "c01"), (2, "c02"), (3, "c03")], id="numbers, not texts"),
    ],
)
def test_rows_stand_by_rank_and_then_by_code(likes: dict[int, int], expected: list[tuple[int, str]]) -> None:
    found = published(tally={index: Tally(n, n) for index, n in likes.items()})
    assert [row[:2] for row in ranks(found)] == expected


def test_every_document_tells_the_same_numbers() -> None:
    found = published()
    rows = ranks(found)
    assert rows == [(1, "c03", 81_181, 51_151), (2, "c01", 31_131, 11_111), (2, "c02", 31_131, 21_121)]
    counts = {code: [rank, likes, people] for rank, code, likes, people in rows}
    assert json.loads(found.event.body)["counts"] == counts
    tally = [
        [row[name] for name in ("rank", "likes", "people")]
        for row in json.loads(found.documents["tally.json"].body)["tally"]
    ]
    assert tally == list(counts.values())
    table = rows_of(found.documents["tally.csv"].body)
    assert table[0] == ["rank", "code", "name", "likes", "people"]
    assert [(int(r[0]), r[1], int(r[3]), int(r[4])) for r in table[1:]] == rows
    alone = [json.loads(rendered.body) for rendered in found.candidates.values()]
    assert [(each["rank"], each["code"], each["likes"], each["people"]) for each in alone] == rows
    for document in (found.documents["results"], found.event, found.documents["tally.json"]):
        assert (json.loads(document.body)["likes"], json.loads(document.body)["people"]) == (143_443, 71_171)


@pytest.mark.parametrize(
    ("tally", "people"),
    [
        ({0: Tally(0, 9), 1: Tally(10, 8)}, (9, 8)),
        ({0: Tally(0, 12), 1: Tally(10, 11)}, (10, 10)),  # an estimate that erred above the likes
        ({0: Tally(0, 1), 1: Tally(0, 1)}, (0, 0)),
        ({}, (0, 0)),
    ],
)
def test_there_are_never_more_people_than_likes(tally: dict[int, Tally], people: tuple[int, int]) -> None:
    found = json.loads(published(tally=tally).documents["results"].body)
    row = next(row for row in found["results"] if row["code"] == "c02")
    assert (found["people"], row["people"]) == people


@pytest.mark.parametrize(
    ("found", "estimated", "sealed"),
    [
        (published(), True, False),
        (published(stored("hidden")), False, False),
        (
            published(stored(state=State.sealed), seal=Seal(AS_OF, 0, 0, {i: (1, Tally(0, 0)) for i in (1, 2, 3)})),
            False,
            True,
        ),
    ],
    ids=["live", "hidden", "sealed"],
)
def test_every_document_says_how_good_its_numbers_are(found: Published, estimated: bool, sealed: bool) -> None:
    for document in (
        found.documents["results"],
        found.event,
        found.documents["tally.json"],
        *found.candidates.values(),
    ):
        said = json.loads(document.body)
        assert (said["people_estimated"], said["sealed"], said["as_of"]) == (estimated, sealed, AS_OF.isoformat())


def test_the_story_is_in_the_candidates_own_document_only() -> None:
    found = published()
    assert "事迹 1" in found.candidates["c02"].body.decode()
    assert not [
        name for name, body in bodies(found).items() if name not in found.candidates and "事迹" in body.decode()
    ]


def test_the_summary_keeps_the_campaigns_inner_sizes_to_itself() -> None:
    summary = json.loads(published().summary.body)
    assert not {"shards", "expected_voters", "secret", "width"} & set(summary)
    assert (summary["id"], summary["state"], summary["candidates"]) == ("a", "published", 3)
    assert summary["opens"] == "2026-11-04T00:00:00+08:00"


def test_the_timeline_is_in_the_campaigns_days() -> None:
    timeline = json.loads(published().documents["timeline"].body)
    assert timeline["hours"][0] == {"hour": "2026-11-04T00:00:00+08:00", "likes": 91_191}
    assert [day["day"] for day in timeline["days"]] == ["2026-11-04", "2026-11-05"]
    assert [day["likes"] for day in timeline["days"]] == [sum(n for _, n in HOURS[:24]), sum(n for _, n in HOURS[24:])]


# ---- the table for spreadsheets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("安然", "安然"),
        ("=1+1", "'=1+1"),
        ("+86", "'+86"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("＝1＋1", "'＝1＋1"),
        ("＠x", "'＠x"),
        ("a=1", "a=1"),
        ('a","b', 'a","b'),
        ("O'Neil", "O'Neil"),
        ("", ""),
    ],
)
def test_a_name_cannot_run_in_a_spreadsheet(name: str, cell: str) -> None:
    found = rows_of(published(names={1: name, 2: "b", 3: "c"}).documents["tally.csv"].body)
    assert next(row for row in found if row[1] == "c02")[2] == cell
    assert all(len(row) == 5 for row in found)


def test_the_table_is_utf_8_with_the_mark_excel_needs() -> None:
    assert published().documents["tally.csv"].body.startswith(b"\xef\xbb\xbfrank,code,name,likes,people\r\n")


# ---- tags -----------------------------------------------------------------------------------------------------------


def test_a_later_reading_of_the_same_numbers_has_the_same_tags() -> None:
    one, later = published(), published(as_of=AS_OF + timedelta(seconds=9))
    assert etags(one) == etags(later)
    assert one.documents["results"].body != later.documents["results"].body


def test_another_number_changes_the_tag_of_every_document_that_shows_it() -> None:
    one = published()
    other = published(tally={**TALLY, 1: Tally(31_132, 21_121)})
    changed = {name for name, etag in etags(one).items() if etag != etags(other)[name]}
    assert changed == {"results", "event", "tally.csv", "tally.json", "c02", "c01"}  # c01 loses its shared rank


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"title": "x"}, {"summary"}),
        ({"closes": "2026-11-25"}, {"summary", "results"}),
        (
            {"timezone": "Asia/Tokyo", "opens": "2026-11-04T01:00", "closes": "2026-11-24T01:00"},
            {"summary", "results", "timeline"},
        ),
    ],
)
def test_another_rule_changes_the_tag_of_what_names_it(change: dict[str, Any], changed: set[str]) -> None:
    one, other = etags(published()), etags(published(stored(**change)))
    assert {name for name, etag in one.items() if etag != other[name]} == changed


def test_sealing_changes_the_tags_though_the_numbers_stay() -> None:
    numbers = numbers_of(stored(), None, roster(), TALLY, AS_OF)
    sealed = dataclasses.replace(numbers, sealed=True)
    one, other = (render(stored(), roster(), each, HOURS, TALLY) for each in (numbers, sealed))
    assert one.documents["results"].etag != other.documents["results"].etag


def test_a_tag_is_quoted_as_http_wants_it() -> None:
    assert Rendered.of(b"x").etag == Rendered.of(b"y", tagged=b"x").etag
    assert Rendered.of(b"x").etag[0] == Rendered.of(b"x").etag[-1] == '"'


def test_a_candidate_without_numbers_of_its_own_has_none() -> None:
    numbers = Numbers({1: (1, Tally(2, 2)), 2: (2, Tally(1, 1)), 3: (3, Tally(0, 0))}, 3, 2, AS_OF, sealed=False)
    assert ranks(render(stored(), roster(), numbers, HOURS, {}))[-1] == (3, "c01", 0, 0)


def test_sealed_numbers_are_as_of_the_seal_however_late_they_are_rendered() -> None:
    sealed_at = datetime(2026, 11, 24, 8, tzinfo=UTC)
    seal = Seal(sealed_at, 0, 0, {index: (1, Tally(0, 0)) for index in roster()})

    numbers = numbers_of(stored(), seal, roster(), {}, AS_OF)

    assert numbers.as_of == sealed_at
