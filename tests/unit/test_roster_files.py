"""Rosters that others' users reported: what the file shows is what is read, or the line is refused and named."""

from __future__ import annotations

import io
import zipfile

import pytest
from openpyxl.worksheet.worksheet import Worksheet

from dianzan.roster.candidates import Candidate, read_roster
from dianzan.roster.changes import Change, changes, corrected
from tests.support.rosters import HEAD, book, case, refusal

# ---- encodings ------------------------------------------------------------------------------------------------------


def test_a_correction_of_one_person_saved_as_gbk_is_read_as_chinese() -> None:
    [candidate] = case("gbk_one_line.csv").candidates
    assert candidate.name == "谢伟"


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("谢伟", "gbk"),
        ("小谢", "gbk"),  # both letters Cyrillic in UTF-8
        ("模", "gbk"),
        ("强", "gbk"),  # a Latin letter in UTF-8
        ("谢伟", "utf-8"),
        ("José", "utf-8"),
        ("Иван", "utf-8"),
        ("Mary·Ann", "utf-8"),
        ("阿不都·热西提", "utf-8"),
        ("“Ann”", "utf-8"),
        ("镕基", "gb18030"),
        ("𠮷野", "gb18030"),
        ("José", "utf-8-sig"),
    ],
)
def test_a_name_alone_under_an_english_header_is_read_as_it_was_written(name: str, encoding: str) -> None:
    [candidate] = read_roster("a.csv", f"code,name\nc01,{name}\n".encode(encoding)).candidates
    assert candidate.name == name


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("编号,姓名\na1,Muñoz\n".encode("cp1252", "replace"), "line 2 would be"),
        ("code,name\na1,Björn Böhm\n".encode("cp1252"), "it is neither UTF-8 nor GBK: line 2 would be"),
        ("code,name\na1,田中太郎\n".encode("shift-jis"), "hardly a common character"),
        ("编号,姓名\na1,何小满\n".encode() + "a2,谢伟\n".encode("gbk"), "line 3 is in GBK, and the rest in UTF-8"),
        ("编号,姓名\n".encode("gbk") + "a1,何小满\n".encode(), "line 2 is in UTF-8, and another line is not"),
    ],
)
def test_a_file_in_another_encoding_is_not_read_as_gbk(data: bytes, said: str) -> None:
    assert said in refusal(data)


@pytest.mark.parametrize("name", ["A队", "小Q", "䶮国", "欧阳娜娜", "喆喆"])
def test_a_name_in_gbk_is_read(name: str) -> None:
    data = f"编号,姓名,区县\na1,{name},东城区\n".encode("gb18030")
    assert [each.name for each in read_roster("a", data).candidates] == [name]


@pytest.mark.parametrize(
    "data",
    ["code,name\nk1,A谢伟\n".encode("gbk"), "code,name\nk1,Jean · Paul\n".encode(), "code,name\nk1,é·Иван\n".encode()],
    ids=["Chinese beside a letter", "a lone dot", "two scripts"],
)
def test_a_file_that_may_be_two_things_is_refused_and_both_are_shown(data: bytes) -> None:
    said = refusal(data)

    assert "it may be UTF-8 or GBK: line 2 is 'k1," in said
    assert "CSV UTF-8" in said


# ---- what the file is -----------------------------------------------------------------------------------------------


def test_a_title_above_the_header_is_passed_over() -> None:
    assert [each.name for each in case("title_row.xlsx").candidates] == ["何小满"]


def test_a_second_roster_below_a_title_is_not_lost_unsaid() -> None:
    def add(sheet: Worksheet) -> None:
        assert sheet.parent is not None
        second = sheet.parent.create_sheet("朝阳")
        for row in (["朝阳区候选人"], [], ["编号", "姓名"], ["b1", "顾南"]):
            second.append(row)

    assert "the sheet '朝阳' also holds a roster" in refusal(book(HEAD, ["a1", "何小满"], change=add))


def test_the_hint_that_excel_writes_for_itself_is_obeyed() -> None:
    [candidate] = case("sep_hint.csv").candidates
    assert (candidate.code, candidate.name, candidate.district) == ("h1", "何小满", "东城区")


def test_padded_names_are_kept_and_padded_headers_understood() -> None:
    assert [each.name for each in case("padded_names.xlsx").candidates] == ["张　三", "李 四", "欧阳小明"]
    [candidate] = read_roster("a.csv", "编 号,姓　名,Ｐｈｏｔｏ\nc01,安然,\n".encode()).candidates
    assert candidate.name == "安然"


def test_a_title_in_a_csv_file_leaves_lines_their_numbers() -> None:
    said = refusal("候选人名单;;\n\n编号;姓名;简介\nc 1;安然;a,b\n".encode())
    assert "line 4, column 编号: 'c 1'" in said


def test_several_values_above_the_header_are_not_lost_unsaid() -> None:
    assert "line 2 names the columns; delete the lines above it" in refusal(b"c00,Bo\ncode,name\nc01,Ann\n")


def archive(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name in names:
            packed.writestr(name, "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param("strict.xlsx", "Strict Open XML", id="strict"),
        pytest.param("html.xls", "it is a web page or other XML", id="HTML as .xls"),
        pytest.param(
            b'\xef\xbb\xbf<?xml version="1.0"?><Workbook/>', "it is a web page or other XML", id="XML of 2003"
        ),
        pytest.param("<table>".encode("utf-16"), "it is a web page or other XML", id="HTML in UTF-16"),
        pytest.param(archive("mimetype", "content.xml"), "OpenDocument", id="ods"),
        pytest.param(archive("xl/workbook.bin"), ".xlsb", id="xlsb"),
        pytest.param(archive("word/document.xml"), "Word", id="docx"),
        pytest.param(b"%PDF-1.7", "it is a PDF", id="PDF"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name_with_what_to_do(data: bytes | str, said: str) -> None:
    refused = refusal(data)
    assert said in refused
    assert "save it as “Excel workbook (.xlsx)”" in refused


# ---- shown text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["blank_braille_blank.csv", "blank_hangul_filler.csv"])
def test_a_name_that_nobody_sees_is_refused(name: str) -> None:
    assert "line 2, column name: has no character that can be seen" in refusal(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("\u115f\u1160", "no character that can be seen"),
        ("\u0301\u0302", "no character that can be seen"),
        ("王\u200b小明", "invisible character U+200B"),
        ("王\u2060小明", "invisible character U+2060"),
        ("a\u200eb", "invisible character U+200E"),
        ("a\u2066b", "invisible character U+2066"),
        ("a\u2028b", "line break"),
        ("谢\u034f伟", "invisible character U+034F"),
        ("谢\ufe00伟", "invisible character U+FE00"),
        ("谢\u200d伟", "invisible character U+200D"),
        ("谢\u3164伟", "invisible character U+3164"),
        ("谢\U000e0061伟", "invisible character U+E0061"),
        ("a" + 5 * "\u0301", "more than 4 marks on one letter"),
        ("谢\ufffd", "a character that was lost before"),
    ],
)
def test_a_name_with_something_hidden_is_refused(name: str, said: str) -> None:
    assert said in refusal(f"code,name\nc01,{name}\n".encode("utf-8-sig"))


@pytest.mark.parametrize(
    "name",
    [
        "👩\u200d🚒 消防队",
        "می\u200cخواهم",
        "🏴\U000e0067\U000e0062\U000e007f",
        "é́",
        "〇",
        "㐀",
        "1\ufe0f\u20e3 号",
        "❤\ufe0f 队",
    ],
)
def test_a_name_of_any_script_is_kept(name: str) -> None:
    [candidate] = read_roster("a.csv", f"code,name\nc01,{name}\n".encode("utf-8-sig")).candidates
    assert candidate.name == name


def test_codes_are_folded_to_small_letters() -> None:
    assert [each.code for each in case("upper.csv").candidates] == ["c01", "c02"]


# ---- a correction ---------------------------------------------------------------------------------------------------

M1 = Candidate("m1", "何小满", "team", "东城区", "社区服务", "十年如一日", "很长的故事", "https://img.example/m1.jpg")


def test_a_column_that_the_file_lacks_is_left_alone() -> None:
    known = {each.code: each for each in case("full.csv").candidates}
    roster = case("correction.csv")
    [wanted] = [corrected(known[each.code], each, roster.columns) for each in roster.candidates]

    assert known["m1"] == M1
    assert changes(known, [wanted]) == [Change("m1", "name", "何小满", wanted.name)]
    assert wanted.story == M1.story


def test_a_cell_that_is_empty_empties_the_field() -> None:
    roster = read_roster("a.csv", "code,name,story\nm1,何小满\n".encode())
    found = changes({"m1": M1}, [corrected(M1, roster.candidates[0], roster.columns)])

    assert [str(each) for each in found] == ["m1 story: '很长的故事' → (empty)"]


def test_a_new_candidate_is_a_change_of_each_field_that_is_not_empty() -> None:
    roster = read_roster("a.csv", "code,name\nm9,新人\n".encode())
    assert changes({}, roster.candidates) == [Change("m9", "name", "", "新人"), Change("m9", "kind", "", "person")]


def test_of_a_long_text_the_place_is_shown_where_it_differs() -> None:
    shown = str(Change("m1", "story", "一" * 500 + "二", "一" * 500 + "三\x1b"))

    assert shown == f"m1 story: …'{'一' * 10}二' → …'{'一' * 10}三\\x1b'"
