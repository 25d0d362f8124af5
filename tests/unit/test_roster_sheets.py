"""What of a workbook is taken: what its sheet shows, or nothing and why."""

from __future__ import annotations

import contextlib
import io
import time
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.worksheet.worksheet import Worksheet

from dianzan.roster.candidates import RosterError, read_roster
from tests.support.rosters import HEAD, book, case, refusal


def test_merged_cells_hold_their_value_in_each_row() -> None:
    districts = [(each.code, each.district, each.category) for each in case("merged.xlsx").candidates]
    assert districts == [
        ("a1", "东城区", "社区服务"),
        ("a2", "东城区", "社区服务"),
        ("a3", "东城区", "医疗"),
        ("a4", "西城区", "教育"),
        ("a5", "西城区", "教育"),
    ]


def test_cells_merged_below_the_last_candidate_make_none() -> None:
    data = book(HEAD, ["a1", "何小满", "东城区"], ["a2", "陆一鸣"], change=lambda sheet: sheet.merge_cells("C2:C9"))
    assert [each.district for each in read_roster("a", data).candidates] == ["东城区", "东城区"]


def test_cells_merged_across_columns_are_refused_by_their_line() -> None:
    data = book(HEAD, ["a1", "何小满"], ["a2", "陆一鸣", "东城区"], change=lambda sheet: sheet.merge_cells("C3:D3"))
    assert "line 3: has cells merged across columns" in refusal(data)


def test_a_merged_code_is_not_taken_for_two_candidates() -> None:
    data = book(HEAD, ["a1", "何小满"], [None, "陆一鸣"], change=lambda sheet: sheet.merge_cells("A2:A3"))
    assert "line 3, column 编号: 'a1' is already in line 2" in refusal(data)


def test_a_formula_that_was_never_computed_is_refused_by_its_cell() -> None:
    said = refusal("formulas.xlsx").splitlines()
    assert [line.partition(":")[0] for line in said[1:]] == ["line 2, column 区县", "line 2, column 类别"]
    assert "never computed" in said[1]


def with_sheet(data: bytes, old: str, new: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(file, "w") as after:
        for part in before.namelist():
            content = before.read(part)
            if part.endswith("sheet1.xml"):
                assert old.encode() in content
                content = content.replace(old.encode(), new.encode())
            after.writestr(part, content)
    return file.getvalue()


@pytest.mark.parametrize(("cached", "district"), [("", ""), ("东城区", "东城区")])
def test_a_formula_that_was_computed_is_its_value_even_if_that_is_empty(cached: str, district: str) -> None:
    data = with_sheet(
        book(HEAD, ["a1", "何小满", '=IF(A2="a1","","x")', "x"]),
        '<c r="C2"><f>IF(A2="a1","","x")</f><v /></c>',
        f'<c r="C2" t="str"><f>IF(A2="a1","","x")</f><v>{cached}</v></c>',
    )
    assert [each.district for each in read_roster("a", data).candidates] == [district]


def test_a_hidden_row_is_neither_taken_nor_lost_unsaid() -> None:
    assert "line 3: is a hidden row; show all rows and clear the filter" in refusal("hidden_row.xlsx")


def test_a_hidden_column_is_refused() -> None:
    def hide(sheet: Worksheet) -> None:
        sheet.column_dimensions["C"].hidden = True

    assert "line 1: a name of a column is in a hidden column" in refusal(book(HEAD, ["a1", "何小满", "x"], change=hide))


def test_a_number_of_more_digits_than_a_spreadsheet_keeps_is_refused() -> None:
    assert "line 2, column 编号: is a number of more than 15 digits" in refusal("long_number.xlsx")


@pytest.mark.parametrize(
    ("number", "number_format", "code"),
    [
        (123456789012345, "General", "123456789012345"),
        (7, "0_ ", "7"),
        (7, "000", "007"),
        (7, "000_);[Red]\\(000\\)", "007"),
        (7, '"c"00', None),
        (7, "0.00", None),
        (1234, "#,##0", None),
        (0.5, "0%", None),
        (10**15, "0", None),
        (123, "[DBNum1][$-804]General", None),
        (123, "[Red]0", "123"),
        (123, ";;;", None),
        (1.5, "0", None),
        (-5, "0;(0)", None),
        (-5, "0;;", None),
        (0, "0;-0;", None),
    ],
)
def test_a_number_is_taken_as_it_is_shown_or_refused(number: float, number_format: str, code: str | None) -> None:
    def shown(sheet: Worksheet) -> None:
        sheet["A2"].number_format = number_format

    data = book(HEAD, [number, "何小满"], change=shown)
    if code is None:
        assert "line 2, column 编号: is " in refusal(data)
    else:
        assert [each.code for each in read_roster("a", data).candidates] == [code]


@pytest.mark.parametrize(
    ("number_format", "taken"),
    [("General", True), ("@", True), ("0", True), ("0;-0;0;@", True), (";;;", False), ('@"同志"', False)],
)
def test_a_text_is_taken_as_it_is_shown_or_refused(number_format: str, taken: bool) -> None:
    def shown(sheet: Worksheet) -> None:
        sheet["B2"].number_format = number_format

    data = book(HEAD, ["a1", "谢伟"], change=shown)
    if taken:
        assert [each.name for each in read_roster("a", data).candidates] == ["谢伟"]
    else:
        assert "line 2, column 姓名: is a text shown as" in refusal(data)


@pytest.mark.parametrize("size", ["0", "0.0"])
def test_rows_and_columns_without_a_size_are_hidden(size: str) -> None:
    data = book(HEAD, ["a1", "何小满", "x"], ["a2", "陆一鸣", "y"])
    assert "line 3: is a hidden row" in refusal(with_sheet(data, '<row r="3"', f'<row ht="{size}" r="3"'))
    columns = f'<cols><col min="3" max="3" width="{size}"/></cols><sheetData>'
    assert "is in a hidden column" in refusal(with_sheet(data, "<sheetData>", columns))


def test_rows_that_are_hidden_unless_shown_are_refused() -> None:
    data = book(HEAD, ["a1", "何小满"])
    assert "its rows are hidden unless shown" in refusal(
        with_sheet(data, "<sheetFormatPr ", '<sheetFormatPr zeroHeight="1" ')
    )


def test_a_zero_that_stands_for_a_formula_never_computed_is_refused() -> None:
    """As XlsxWriter writes it: 0 in each, and word in the workbook that all is to be computed when it is opened."""
    data = with_sheet(
        book(HEAD, ["a1", "何小满", '=IF(A2="a1","东城区","x")', "x"]),
        '<f>IF(A2="a1","东城区","x")</f><v /></c>',
        '<f>IF(A2="a1","东城区","x")</f><v>0</v></c>',
    )
    assert b'fullCalcOnLoad="1"' in zipfile.ZipFile(io.BytesIO(data)).read("xl/workbook.xml")
    assert "line 2, column 区县: holds a formula that was never computed" in refusal(data)


def test_a_fraction_has_the_digits_that_are_shown() -> None:
    [candidate] = read_roster("a", book(HEAD, ["a1", 0.1 + 0.2])).candidates
    assert candidate.name == "0.3"


def with_marks(sheet: Worksheet) -> None:
    sheet.merge_cells("C2:C3")
    sheet.row_dimensions[4].hidden = True


MARKED = book(HEAD, ["a1", "何小满", "东城区", '=A1&"x"'], [7, "陆一鸣"], ["a3", "顾南"], change=with_marks)
SHEET = zipfile.ZipFile(io.BytesIO(MARKED)).read("xl/worksheets/sheet1.xml").decode()


@given(
    st.lists(st.tuples(st.integers(0, len(SHEET)), st.integers(0, 3), st.sampled_from(["", "<", '"', "9", ":", "Z"])))
)
@settings(max_examples=200, deadline=None)
def test_a_damaged_sheet_of_marks_is_read_or_refused(damages: list[tuple[int, int, str]]) -> None:
    damaged = SHEET
    for at, length, put in damages[:4]:
        damaged = damaged[:at] + put + damaged[at + length :]
    with contextlib.suppress(RosterError):
        read_roster("a", with_sheet(MARKED, SHEET, damaged))


PLAIN = book(HEAD, ["a1", "何小满"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(
            "</sheetData>",
            "</sheetData><mergeCells>" + '<mergeCell ref="A1:A1048576"/>' * 300_000 + "</mergeCells>",
            id="merges",
        ),
        pytest.param(
            "<sheetData>",
            "<cols>" + '<col min="1" max="16384" hidden="1"/>' * 300_000 + "</cols><sheetData>",
            id="columns",
        ),
        pytest.param(
            "</sheetData>",
            "".join(f'<row r="{n}"><c r="XFD{n}"/></row>' for n in range(9, 50_000)) + "</sheetData>",
            id="wide",
        ),
        pytest.param(
            "</sheetData>", '<row r="9"><c r="XFD9"><f>1</f></c></row></sheetData>', id="a formula far to the right"
        ),
    ],
)
def test_a_bomb_of_marks_goes_off_nowhere(old: str, new: str) -> None:
    began = time.process_time()
    with contextlib.suppress(RosterError):
        assert read_roster("a", with_sheet(PLAIN, old, new)).candidates[0].name == "何小满"

    assert time.process_time() - began < 20
