"""Rosters as offices write them: what is read, what is refused, and which line is named."""

import contextlib
import csv
import dataclasses
import io
import random
import warnings
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dianzan
from dianzan.domain.errors import DianzanError
from dianzan.domain.limits import CANDIDATES_MAX
from dianzan.domain.shown_text import is_visible
from dianzan.roster import candidates as rules
from dianzan.roster import rows, workbook
from dianzan.roster import table as form
from dianzan.roster.candidates import Candidate, RosterError
from dianzan.roster.candidates import read_roster as read_whole

DEMO = Path(dianzan.__file__).parent / "local" / "demo"
COLUMNS = ("code", "name", "kind", "district", "category", "summary", "story", "photo")
CHINESE_COLUMNS = ("编号", "姓名", "类型", "所属区", "类别", "简介", "事迹", "照片")
ANN = Candidate("c01", "安然", "person", "", "", "", "", "")


def read_roster(filename: str, data: bytes) -> list[Candidate]:
    return read_whole(filename, data).candidates


def refusal(data: bytes) -> RosterError:
    with pytest.raises(RosterError) as caught:
        read_roster("list.csv", data)
    return caught.value


def places(data: bytes) -> list[tuple[int, str | None]]:
    return [(problem.line, problem.column) for problem in refusal(data).problems]


def sheet_file(*rows: list[Any], change: Callable[[openpyxl.Workbook], None] = lambda _: None) -> bytes:
    workbook = openpyxl.Workbook()
    assert workbook.active is not None
    for row in rows:
        workbook.active.append(row)
    change(workbook)
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


def with_part(data: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The same archive, one part changed, checksums right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, change(old.read(part)) if part == name else old.read(part))
    return file.getvalue()


SHEET = "xl/worksheets/sheet1.xml"
PLAIN_SHEET = sheet_file(["code", "name"], ["c01", "安然"])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param("code,name\nc01,安然\n".encode(), {}, id="utf-8"),
        pytest.param("code,name\nc01,安然\n".encode("utf-8-sig"), {}, id="utf-8 with BOM"),
        pytest.param("编号,姓名\nc01,安然\n".encode("gbk"), {}, id="GBK"),
        pytest.param("code,name\nc01,安然\n".encode("gb18030"), {}, id="GB18030, English header"),
        pytest.param("code\tname\r\nc01\t安然\r\n".encode("utf-16"), {}, id="Excel's Unicode text"),
        pytest.param(b"\xfe\xff" + "code\tname\nc01\t安然".encode("utf-16-be"), {}, id="UTF-16 big-endian"),
        pytest.param("code;name\nc01;安然".encode(), {}, id="semicolon, no last line end"),
        pytest.param("code,name\rc01,安然\r".encode(), {}, id="old Mac line ends"),
        pytest.param("\n \n,,\n CODE ,\u3000Name\u3000\n\n\u3000c01\xa0,\u3000安然 \n,\n".encode(), {}, id="blanks"),
        pytest.param('"Code","name"\n"C01","安然"\n'.encode(), {}, id="quoted, code lower-cased"),
        pytest.param("name,code,,\n安然,c01,,\n".encode(), {}, id="other order, empty columns left behind"),
        pytest.param("code,name,story,photo\nc01,安然\n".encode(), {}, id="short row"),
        pytest.param("code;name;summary\nc01;安然;a,b,c,d\n".encode(), {"summary": "a,b,c,d"}, id="commas in a text"),
        pytest.param('code,name,summary\nc01,安然,"a;b\tc ""d"""\n'.encode(), {"summary": 'a;b\tc "d"'}, id="quotes"),
        pytest.param('code,name,story\nc01,安然,"一\r\n二"\n'.encode(), {"story": "一\n二"}, id="line end in a text"),
        pytest.param("code,name\n007,安然\n".encode(), {"code": "007"}, id="leading zeros"),
        pytest.param(b"code,name\nc01,=1+1\n", {"name": "=1+1"}, id="a formula is text"),
        pytest.param("代码,名称,类型\nc01,安然,集体\n".encode(), {"kind": "team"}, id="集体"),
        pytest.param("code,name,kind\nc01,安然,团队\n".encode(), {"kind": "team"}, id="团队"),
        pytest.param("code,name,kind\nc01,安然,Team\n".encode(), {"kind": "team"}, id="Team"),
        pytest.param("code,name,kind\nc01,安然,个人\n".encode(), {"kind": "person"}, id="个人"),
        pytest.param(
            "编号,姓名,区,类别,简介,故事,图片\nc01,安然,东城区,环保,短,长,HTTPS://a.example/图.jpg?x=1#y\n".encode(),
            {
                "district": "东城区",
                "category": "环保",
                "summary": "短",
                "story": "长",
                "photo": "HTTPS://a.example/图.jpg?x=1#y",
            },
            id="every column, in Chinese",
        ),
    ],
)
def test_a_csv_file_is_read(data: bytes, expected: dict[str, str]) -> None:
    assert read_roster("list.csv", data) == [dataclasses.replace(ANN, **expected)]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        pytest.param(["c01", "安然"], {}, id="text"),
        pytest.param([1.0, "安然"], {"code": "1"}, id="a number"),
        pytest.param([17, "安然"], {"code": "17"}, id="a whole number"),
        pytest.param(["007", "安然"], {"code": "007"}, id="leading zeros"),
        pytest.param(["c01", "安然_x000D_"], {}, id="Excel's Windows line end"),
        pytest.param(["c01", "安然", None, "第一行\n第二行"], {"story": "第一行\n第二行"}, id="line end in a text"),
        pytest.param(["c01", "安然", "team", None, None, None], {"kind": "team"}, id="empty cells beyond"),
    ],
)
def test_a_workbook_is_read(cells: list[Any], expected: dict[str, str]) -> None:
    data = sheet_file([None], ["编号", "NAME ", "kind", "story"], [], cells)
    assert read_roster("list.csv", data) == [dataclasses.replace(ANN, **expected)]


def test_a_number_shown_with_leading_zeros_keeps_them() -> None:
    def as_shown(workbook: openpyxl.Workbook) -> None:
        workbook.worksheets[0]["A2"].number_format = "000"

    [candidate] = read_roster("a.xlsx", sheet_file(["code", "name"], [7, "安然"], change=as_shown))
    assert candidate.code == "007"


def test_a_wrong_sheet_size_loses_no_row() -> None:
    data = sheet_file(["code", "name"], ["c01", "安然"], ["c02", "Bo"])
    forged = with_part(data, SHEET, lambda xml: xml.replace(b'ref="A1:B3"', b'ref="A1:A1"'))
    assert forged != data
    assert [candidate.code for candidate in read_roster("a.xlsx", forged)] == ["c01", "c02"]


def test_only_the_first_visible_sheet_is_read() -> None:
    def around(workbook: openpyxl.Workbook) -> None:
        hidden = workbook.create_sheet("old", 0)
        hidden.append(["code", "name"])
        hidden.sheet_state = "hidden"
        workbook.create_sheet("填写说明").append(["请每行填写一位"])

    assert read_roster("a.xlsx", sheet_file(["code", "name"], ["c01", "安然"], change=around)) == [ANN]


def test_a_second_roster_in_a_workbook_is_not_lost_unsaid() -> None:
    def second(workbook: openpyxl.Workbook) -> None:
        workbook.create_sheet("朝阳").append(["编号", "姓名"])

    assert "'朝阳'" in str(refusal(sheet_file(["code", "name"], ["c01", "安然"], change=second)))


HEAD = ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize(
    ("row", "column"),
    [
        pytest.param(",Ann", "code", id="no code"),
        pytest.param("c 1,Ann", "code", id="code with a space"),
        pytest.param("-c1,Ann", "code", id="code begins with a hyphen"),
        pytest.param("编1,Ann", "code", id="code in Chinese"),
        pytest.param("c" * (rules.CODE_CHARS_MAX + 1) + ",Ann", "code", id="long code"),
        pytest.param("c01", "name", id="no name"),
        pytest.param("c01," + "n" * (rules.NAME_CHARS_MAX + 1), "name", id="long name"),
        pytest.param('c01,"An\nn"', "name", id="line break in a name"),
        pytest.param("c01,An\x07n", "name", id="control character in a name"),
        pytest.param("c01,A\u202enn", "name", id="reversed name"),
        pytest.param("c01,Ann,robot", "kind", id="unknown kind"),
        pytest.param("c01,Ann,," + "d" * (rules.LABEL_CHARS_MAX + 1), "district", id="long district"),
        pytest.param("c01,Ann,,," + "d" * (rules.LABEL_CHARS_MAX + 1), "category", id="long category"),
        pytest.param("c01,Ann,,,," + "d" * (rules.SUMMARY_CHARS_MAX + 1), "summary", id="long summary"),
        pytest.param("c01,Ann,,,,," + "d" * (rules.STORY_CHARS_MAX + 1), "story", id="long story"),
        pytest.param("c01,Ann,,,,,a\x1bb", "story", id="escape character in a story"),
        pytest.param("c01,Ann,,,,,,javascript:alert(1)", "photo", id="script as photo"),
        pytest.param("c01,Ann,,,,,,//a.example/1.jpg", "photo", id="photo without a scheme"),
        pytest.param("c01,Ann,,,,,,https://a.example/1 2.jpg", "photo", id="photo with a space"),
        pytest.param("c01,Ann,,,,,,https://", "photo", id="photo without a host"),
        pytest.param("c01,Ann,,,,,,https://bank.example@a.example/1.jpg", "photo", id="photo with a user part"),
        pytest.param('c01,Ann,,,,,,"https://a.example/"">"', "photo", id="photo with a quotation mark"),
        pytest.param("c01,Ann,,,,,,https://a.example/" + "p" * rules.PHOTO_CHARS_MAX, "photo", id="long photo"),
        pytest.param("c01,Ann,,,,,,,more", None, id="more values than columns"),
        pytest.param('c01,"Ann', None, id="open quotation mark"),
        pytest.param('c01,"Ann" x', None, id="text after a quotation mark"),
    ],
)
def test_a_bad_value_is_named_by_line_and_column(row: str, column: str | None) -> None:
    assert places(f"{HEAD}ok1,Bo\n{row}\n".encode()) == [(3, column)]


@pytest.mark.parametrize(
    ("longest", "column"),
    [
        ("c" * rules.CODE_CHARS_MAX + ",Ann", "code"),
        ("c01," + "名" * rules.NAME_CHARS_MAX, "name"),
        ("c01,Ann,," + "区" * rules.LABEL_CHARS_MAX, "district"),
        ("c01,Ann,,," + "类" * rules.LABEL_CHARS_MAX, "category"),
        ("c01,Ann,,,," + "简" * rules.SUMMARY_CHARS_MAX, "summary"),
        ("c01,Ann,,,,," + "事" * rules.STORY_CHARS_MAX, "story"),
        ("c01,Ann,,,,,," + "https://a.example/".ljust(rules.PHOTO_CHARS_MAX, "p"), "photo"),
    ],
)
def test_the_longest_value_allowed_is_kept_whole(longest: str, column: str) -> None:
    [candidate] = read_roster("a.csv", f"{HEAD}{longest}\n".encode())
    assert getattr(candidate, column) == longest.split(",")[COLUMNS.index(column)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"code,name,nmae\nc01,Ann,\n", [(1, None)], id="unknown column"),
        pytest.param("\ncode,编号,name\nc01,c01,Ann\n".encode(), [(2, "编号")], id="the same column twice"),
        pytest.param(b"name\nAnn\n", [(1, None)], id="no code column"),
        pytest.param(b"c01,Ann\nc02,Bo\n", [(1, None)] * 4, id="no header"),
        pytest.param(b"code,name\n\n,\n", [(1, None)], id="no candidates"),
        pytest.param(b"", [(0, None)], id="empty file"),
        pytest.param(b"\xef\xbb\xbf\n\n", [(0, None)], id="blank file"),
        pytest.param(b"code,name\nc01,\xff\xff\n", [(0, None)], id="no known encoding"),
        pytest.param(b"\xff\xfec", [(0, None)], id="half a UTF-16 character"),
        pytest.param(b"code,name\nc01,A\0nn\nc02,Bo\nc\0,x\n", [(2, None), (4, None)], id="NUL bytes"),
        pytest.param(b"code,name,\nc01,Ann,x\n", [(2, None)], id="a value under no column name"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", [(0, None)], id="old Excel"),
        pytest.param(b"code,name\nc01,Ann" + b"," * rows.COLUMNS_MAX + b"x", [(0, None)], id="too many columns"),
        pytest.param(b"PK\x03\x04 and no more", [(0, None)], id="no archive"),
        pytest.param(PLAIN_SHEET[:-200], [(0, None)], id="workbook cut off"),
        pytest.param(with_part(PLAIN_SHEET, SHEET, lambda xml: xml[:-30]), [(0, None)], id="sheet cut off"),
        pytest.param(sheet_file(["code", "name"], [date(2026, 3, 1), "Ann"]), [(2, "code")], id="Excel made a date"),
        pytest.param(sheet_file(["编号", "姓名"], ["c01", "#REF!"]), [(2, "姓名")], id="Excel shows an error"),
        pytest.param(
            sheet_file(["code", "name"], [1.5, "Ann"], [], [-2, "Bo"]), [(2, "code"), (4, "code")], id="numbers"
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_lines(data: bytes, expected: list[tuple[int, str | None]]) -> None:
    assert places(data) == expected


def test_every_bad_line_is_named_as_an_editor_counts_them() -> None:
    data = '编号,姓名,照片,事迹\r\nc01,安然,,"一\r\n二"\r\n\r\nC01,,ftp://x,\r\nc02,Bo,,\r\n'.encode("gbk")
    problems = str(refusal(data)).splitlines()
    assert [problem.split(":")[0] for problem in problems[1:]] == [
        "line 5, column 姓名",
        "line 5, column 照片",
        "line 5, column 编号",
    ]
    assert "already in line 2" in problems[3]


def test_a_message_cannot_steer_a_terminal() -> None:
    assert "\x1b" not in str(refusal(b"code,name,\x1b[2J\nc\x1b1,Ann,\n"))


def test_the_list_of_problems_ends_and_says_how_many_follow() -> None:
    error = refusal(b"code,name\n" + b"!,Ann\n" * (rows.PROBLEMS_MAX + 7))
    assert (len(error.problems), error.more) == (rows.PROBLEMS_MAX, 7)
    assert str(error).endswith("… and 7 more")
    assert isinstance(error, DianzanError)


def test_as_many_candidates_as_allowed_and_not_one_more() -> None:
    lines = [f"c{number},Ann\n".encode() for number in range(CANDIDATES_MAX + 1)]
    assert len(read_roster("a.csv", b"code,name\n" + b"".join(lines[:-1]))) == CANDIDATES_MAX
    assert places(b"code,name\n" + b"".join(lines)) == [(CANDIDATES_MAX + 2, None)]


def test_a_file_over_the_limit_is_not_looked_at() -> None:
    assert f"{form.FILE_BYTES_MAX:,}" in str(refusal(b" " * (form.FILE_BYTES_MAX + 1)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            lambda xml: xml + b" " * workbook.UNPACKED_BYTES_MAX, f"{workbook.UNPACKED_BYTES_MAX:,} in", id="size"
        ),
        pytest.param(
            lambda xml: xml.replace(b"</row>", b"<c/>" * workbook.TAGS_MAX + b"</row>", 1),
            f"{workbook.TAGS_MAX:,} cells",
            id="cells",
        ),
        pytest.param(
            lambda xml: xml.replace(b'<row r="2"', b'<row r="99999999999"'),
            f"{workbook.SHEET_ROWS_MAX:,} rows",
            id="row number",
        ),
    ],
)
def test_a_bomb_is_refused_before_it_goes_off(change: Callable[[bytes], bytes], said: str) -> None:
    assert said in str(refusal(with_part(PLAIN_SHEET, SHEET, change)))


def test_a_part_that_lies_about_its_size_is_cut_off_there() -> None:
    data = with_part(PLAIN_SHEET, SHEET, lambda xml: xml + b" " * 50_000_000)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = archive.getinfo(SHEET).file_size
    forged = data.replace(size.to_bytes(4, "little"), (1_000).to_bytes(4, "little"))
    assert forged != data
    assert places(forged) == [(0, None)]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(method: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(SHEET, b"x" * 1_000)
    assert "no spreadsheet program" in str(refusal(file.getvalue()))


def test_too_many_or_double_parts_are_refused() -> None:
    for names in (map(str, range(workbook.PARTS_MAX + 1)), ["a", "a"]):
        file = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
            warnings.simplefilter("ignore")  # zipfile warns of the double name that is wanted here
            for name in names:
                archive.writestr(name, b"")
        assert places(file.getvalue()) == [(0, None)]


# --- Properties -----------------------------------------------------------------------------------------------------


def text(chars_max: int, *, lines: bool = False) -> st.SearchStrategy[str]:
    """Any text a field keeps as it is: something is to be seen, nothing is hidden in it, and nothing to trim."""
    letters = st.characters(
        exclude_categories=["Cc", "Cs", "Zl", "Zp"] if lines else ["Cc", "Cf", "Cs", "Zl", "Zp"],
        exclude_characters="\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    )
    alphabet = st.one_of(letters, st.sampled_from("\n\t,;\"'=" if lines else ",;\"'=中名"))
    values = st.text(alphabet, max_size=min(chars_max, 30)).map(lambda value: value.strip(" \n\t\u200b\ufeff"))
    values = values.filter(lambda value: value == value.strip() == value.strip("\u200b\ufeff"))
    return values.filter(lambda value: not value or any(is_visible(char) for char in value))


candidates = st.builds(
    Candidate,
    code=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True),
    name=text(rules.NAME_CHARS_MAX).filter(bool),
    kind=st.sampled_from(["person", "team"]),
    district=text(rules.LABEL_CHARS_MAX),
    category=text(rules.LABEL_CHARS_MAX),
    summary=text(rules.SUMMARY_CHARS_MAX, lines=True),
    story=text(rules.STORY_CHARS_MAX, lines=True),
    photo=st.sampled_from(["", "https://a.example/1.jpg", "http://图.example:8080/a?b=c;d,e"]),
)
rosters = st.lists(candidates, min_size=1, max_size=5, unique_by=lambda candidate: candidate.code)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@given(roster=rosters, delimiter=st.sampled_from(",;\t"), line_end=st.sampled_from(["\n", "\r\n", "\r"]))
@settings(max_examples=40, deadline=None)
def test_what_is_written_as_csv_is_read_back(
    encoding: str, roster: list[Candidate], delimiter: str, line_end: str
) -> None:
    file = io.StringIO(newline="")
    # Before 3.13 the writer leaves a line end unquoted when it is not the chosen one: QUOTE_ALL (1) for those files.
    writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=1 if line_end == "\r" else 0)
    # A Chinese header tells the two apart; under an English one a lone name such as 模, or José, could be either.
    writer.writerow(CHINESE_COLUMNS if encoding in ("utf-8", "gb18030") else COLUMNS)
    writer.writerows(dataclasses.astuple(candidate) for candidate in roster)
    data = file.getvalue().encode(encoding)
    # What may be another encoding is asked about, and never read as something else.
    assert _read_or_asked(data) in (roster, None)


MAY_BE_ANOTHER = ("is neither UTF-8 nor GBK: line", "has hardly a common character", "is in GBK, and the rest in UTF-8")


def _read_or_asked(data: bytes) -> list[Candidate] | None:
    try:
        return list(read_roster("a.csv", data))
    except RosterError as error:
        if any(reason in str(error) for reason in MAY_BE_ANOTHER):
            return None
        raise


def read_or_refuse(data: bytes) -> None:
    with contextlib.suppress(RosterError):
        assert read_roster("any", data)


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=100).map(lambda tail: b"code,name\nc01,Ann\n" + tail)))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_list_or_a_refusal(data: bytes) -> None:
    read_or_refuse(data)


PARTS = zipfile.ZipFile(io.BytesIO(PLAIN_SHEET)).namelist()


@given(st.sampled_from([None, *PARTS]), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_damaged_workbook_gives_a_list_or_a_refusal(part: str | None, seed: int) -> None:
    def damaged(content: bytes) -> bytes:
        chance, changed = random.Random(seed), bytearray(content)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(changed))
            changed[at : at + chance.randint(0, 3)] = chance.choice([b"", b"<", b'"', b"9", b"\xff", b"\0", b"A1"])
        return bytes(changed)

    read_or_refuse(damaged(PLAIN_SHEET) if part is None else with_part(PLAIN_SHEET, part, damaged))


def test_the_demo_roster_is_complete() -> None:
    roster = read_roster("candidates.csv", (DEMO / "candidates.csv").read_bytes())
    assert [candidate.code for candidate in roster] == [f"c{number:02}" for number in range(1, 25)]
    assert {candidate.kind for candidate in roster} == {"person", "team"}
    assert all(
        candidate.district and candidate.category and candidate.summary and candidate.story for candidate in roster
    )
    assert not any(candidate.photo for candidate in roster)
