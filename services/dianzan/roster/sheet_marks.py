"""What a sheet's XML says of its cells and openpyxl's reader passes over: merged, hidden, never computed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import IO, Any
from xml.etree import ElementTree

from dianzan.roster.rows import COLUMNS_MAX, SAVE_AS, RefusedError, Row, Unreadable

_RANGE = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7}):\$?([A-Z]{1,3})\$?(\d{1,7})")
_CELL = re.compile(r"([A-Z]{1,3})\d{1,7}")
_TRUE = ("1", "true")
_NOT_COMPUTED = Unreadable(
    "holds a formula that was never computed; open the file in Excel or WPS, save it, import that"
)
_HIDDEN_COLUMN = Unreadable("is in a hidden column; show the column, or delete it")
_HIDDEN_ROW = "is a hidden row; show all rows and clear the filter, or delete it"
_WIDE = "has cells merged across columns; split them, and write each value into its own column"


@dataclass(slots=True)
class _Merge:
    first_row: int
    last_row: int
    column: int
    is_wide: bool
    text: str | Unreadable = ""


@dataclass(slots=True)
class SheetMarks:
    """The marks of one sheet; rows are given to `shown` from the top."""

    hidden_rows: set[int] = field(default_factory=set)
    hidden_columns: set[int] = field(default_factory=set)  # columns count from 0
    not_computed: dict[int, list[int]] = field(default_factory=dict)  # row -> columns
    zero_is_no_result: bool = False  # the program that wrote the file left all computing to the next one
    merges: dict[int, list[_Merge]] = field(default_factory=dict)  # first row -> those that begin there
    _open: list[_Merge] = field(default_factory=list)

    def shown(self, row: Row) -> Row:
        """The row as the sheet shows it: the value of cells merged downwards in each of them, the rest by its fault."""
        begin = self.merges.get(row.line, [])
        self._open = [merge for merge in self._open if merge.last_row >= row.line] + begin
        if len(self._open) > COLUMNS_MAX:
            raise RefusedError(f"cells of line {row.line} are merged more than once; {SAVE_AS}")
        cells = list(row.cells)
        for column in self.not_computed.get(row.line, ()):
            _put(cells, column, _NOT_COMPUTED)
        for merge in begin:
            merge.text = cells[merge.column] if merge.column < len(cells) else ""
        if not any(cell != "" for cell in cells):
            return row  # a merge that goes on below the last candidate makes none
        for merge in self._open:
            if not merge.is_wide:
                _put(cells, merge.column, merge.text)
        for number, cell in enumerate(cells):
            if cell != "" and number in self.hidden_columns:
                cells[number] = _HIDDEN_COLUMN
        return replace(row, cells=cells, fault=self._fault(row.line))

    def _fault(self, line: int) -> str | None:
        if line in self.hidden_rows:
            return _HIDDEN_ROW
        return _WIDE if any(merge.is_wide and merge.text != "" for merge in self._open) else None


def read_marks(source: IO[bytes], *, zero_is_no_result: bool = False) -> SheetMarks:
    """The marks of a sheet's XML, one pass over it."""
    marks = SheetMarks(zero_is_no_result=zero_is_no_result)
    row = 0
    for event, element in ElementTree.iterparse(source, events=("start", "end")):  # noqa: S314 bounded when unpacked
        name = element.tag.rpartition("}")[2]
        if event == "start":
            if name == "row":
                row = int(element.get("r", row + 1))
        elif name == "row":
            _note_row(marks, row, element)
            element.clear()
        elif name == "sheetFormatPr" and element.get("zeroHeight") in _TRUE:
            raise RefusedError(f"its rows are hidden unless shown one by one; show all rows, or {SAVE_AS}")
        elif name == "col" and (element.get("hidden") in _TRUE or _is_zero(element.get("width"))):
            last = min(int(element.get("max", 1)), COLUMNS_MAX)
            marks.hidden_columns.update(range(int(element.get("min", 1)) - 1, last))
        elif name == "mergeCell" and (merge := _merge(element.get("ref", ""))) and merge.column < COLUMNS_MAX:
            marks.merges.setdefault(merge.first_row, []).append(merge)
    return marks


def _note_row(marks: SheetMarks, row: int, element: Any) -> None:
    if element.get("hidden") in _TRUE or _is_zero(element.get("ht")):
        marks.hidden_rows.add(row)
    column = -1
    for cell in element:
        place = _CELL.fullmatch(cell.get("r", ""))
        column = _column(place[1]) if place else column + 1
        if column >= COLUMNS_MAX and len(cell):
            raise RefusedError(f"line {row} has a value beyond its column {COLUMNS_MAX}; {COLUMNS_MAX} are read")
        values = {part.tag.rpartition("}")[2]: part.text for part in cell}
        # A formula that was computed to an empty text has the type str.
        none = ("", None, "0") if marks.zero_is_no_result else ("", None)
        if "f" in values and values.get("v") in none and cell.get("t") != "str":
            marks.not_computed.setdefault(row, []).append(column)


def _is_zero(size: str | None) -> bool:
    return size is not None and re.fullmatch(r"0(\.0*)?", size) is not None


def _merge(reference: str) -> _Merge | None:
    parts = _RANGE.fullmatch(reference)
    if parts is None:
        return None
    left, top, right, bottom = parts.groups()
    return _Merge(int(top), int(bottom), _column(left), is_wide=left != right)


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _put(cells: list[str | Unreadable], column: int, value: str | Unreadable) -> None:
    cells.extend([""] * (column + 1 - len(cells)))
    cells[column] = value
