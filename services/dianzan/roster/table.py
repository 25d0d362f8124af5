"""Owns the form of a roster file: finds format, encoding, delimiter and columns, and yields its rows as text."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from dianzan.domain.limits import CANDIDATES_MAX
from dianzan.domain.shown_text import quoted
from dianzan.roster.encoding import decode
from dianzan.roster.rows import SAVE_AS, TITLE_ROWS_MAX, TRIMMED, Problems, RefusedError, Row, Unreadable, bounded
from dianzan.roster.workbook import workbook_rows

FILE_BYTES_MAX = 10_000_000  # 5,000 candidates with a page of text each are about 8 MB
HEADER_CHARS_MAX = 4_000  # of a line, looked at to find the delimiter

# A header is compared without its blanks, in half-width letters and case-folded.
COLUMN_NAMES = {
    "code": ("code", "编号", "代码"),
    "name": ("name", "姓名", "名称"),
    "kind": ("kind", "类型"),
    "district": ("district", "区", "区县", "所属区"),
    "category": ("category", "类别"),
    "summary": ("summary", "简介"),
    "story": ("story", "事迹", "故事"),
    "photo": ("photo", "照片", "图片"),
}
REQUIRED_COLUMNS = ("code", "name")

_COLUMN_OF_NAME = {name: column for column, names in COLUMN_NAMES.items() for name in names}
_WITHOUT_BLANKS = dict.fromkeys(map(ord, TRIMMED))
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_OLD_EXCEL_START = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, slots=True)
class Header:
    """Where each known column stands, and how this file spells it."""

    place: dict[str, int]
    spelling: dict[str, str]
    nameless: frozenset[int]  # places whose cell in the header is empty
    width: int

    def has_value_outside(self, row: Row) -> bool:
        return any(cell != "" and (i >= self.width or i in self.nameless) for i, cell in enumerate(row.cells))

    def text(self, row: Row, column: str) -> str:
        """The row's text in this column, empty when there is none; RefusedError when the cell holds no text."""
        place = self.place.get(column, len(row.cells))
        cell = row.cells[place] if place < len(row.cells) else ""
        if isinstance(cell, Unreadable):
            raise RefusedError(cell.message)
        return cell


def read_table(data: bytes, problems: Problems) -> tuple[Header, list[Row]]:
    """The header and at most CANDIDATES_MAX rows; what is wrong in a line goes to `problems`.

    RefusedError when the file as a whole cannot be read. Without a required column there are no rows.
    """
    rows = _below_titles(_rows(data, problems))
    if not rows:
        if not problems.listed:
            raise RefusedError("it is empty; the first line must name the columns, of which code and name are required")
        return Header({}, {}, frozenset(), 0), []
    header = _header(rows[0], problems)
    if not all(column in header.place for column in REQUIRED_COLUMNS):
        return header, []
    if len(rows) == 1:
        problems.add(rows[0].line, None, "has no candidate below it; write one candidate a line under the header")
    if len(rows) > 1 + CANDIDATES_MAX:
        line = rows[1 + CANDIDATES_MAX].line
        problems.add(line, None, f"is beyond {CANDIDATES_MAX:,} candidates; nothing after it was looked at")
    return header, rows[1 : 1 + CANDIDATES_MAX]


def _below_titles(rows: list[Row]) -> list[Row]:
    """The rows from the header on. Above it titles may stand, each in one cell, and Excel's own `sep=;`."""
    at = next((number for number, row in enumerate(rows[: TITLE_ROWS_MAX + 1]) if _is_header(row)), 0)
    if any(sum(cell != "" for cell in row.cells) > 1 for row in rows[:at]):
        raise RefusedError(f"line {rows[at].line} names the columns; delete the lines above it")
    return rows[at:]


def _is_header(row: Row) -> bool:
    return {_column(cell) for cell in row.cells if isinstance(cell, str)}.issuperset(REQUIRED_COLUMNS)


def _header(row: Row, problems: Problems) -> Header:
    header = Header({}, {}, frozenset(i for i, cell in enumerate(row.cells) if cell == ""), len(row.cells))
    if row.fault:
        problems.add(row.line, None, row.fault)
    for place, cell in enumerate(row.cells):
        if isinstance(cell, Unreadable):
            problems.add(row.line, None, f"a name of a column {cell.message}")
            continue
        name, column = cell, _column(cell)
        if column is None:
            if place not in header.nameless:
                problems.add(row.line, None, f"unknown column {quoted(name)}; known are {', '.join(COLUMN_NAMES)}")
        elif column in header.place:
            problems.add(row.line, name, f"is the second {column} column; keep one")
        else:
            header.place[column] = place
            header.spelling[column] = name
    for column in REQUIRED_COLUMNS:
        if column not in header.place:
            wanted = " or ".join(COLUMN_NAMES[column])
            problems.add(row.line, None, f"there is no column {column}; name it {wanted} in this line")
    return header


def _column(name: str) -> str | None:
    letters = unicodedata.normalize("NFKC", name).translate(_WITHOUT_BLANKS)
    return _COLUMN_OF_NAME.get(letters.casefold())


def _rows(data: bytes, problems: Problems) -> list[Row]:
    if len(data) > FILE_BYTES_MAX:
        raise RefusedError(
            f"it has more than {FILE_BYTES_MAX:,} bytes, which are the most that is read; take out pictures"
        )
    if data.startswith(_ZIP_STARTS):
        return workbook_rows(data, _is_header)
    if data.startswith(_OLD_EXCEL_START):
        raise RefusedError(f"it is an old .xls workbook, or protected by a password; {SAVE_AS}, without a password")
    if data.startswith(b"%PDF"):
        raise RefusedError(f"it is a PDF; import the workbook that it was made of, or {SAVE_AS}")
    text = decode(data)
    if text.lstrip(TRIMMED).startswith("<"):
        raise RefusedError(f"it is a web page or other XML, whatever its name ends in; {SAVE_AS}")
    _note_nul(text, problems)
    return [] if problems.listed else bounded(_csv_rows(text, problems))


# --- CSV ------------------------------------------------------------------------------------------------------------


def _note_nul(text: str, problems: Problems) -> None:
    if "\0" not in text:
        return
    for line, content in enumerate(io.StringIO(text, newline=""), 1):
        if "\0" in content:
            problems.add(line, None, f"has a NUL byte, so this is no plain text; {SAVE_AS}")


def _csv_rows(text: str, problems: Problems) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            advice = "close every quotation mark, and write a quotation mark inside a quoted text twice"
            problems.add(line, None, f"the row that begins here does not end properly ({error}); {advice}")
            return
        if cells is None:
            return
        if cells:  # ten megabytes of line ends are ten million rows
            yield Row(line, cells)


def _delimiter(text: str) -> str:
    """The delimiter under which the header has the most known columns; texts below it hold any of the three."""
    lines = (line for line in io.StringIO(text, newline=None) if line.strip(TRIMMED + ',;"'))
    heads = [line[:HEADER_CHARS_MAX] for line in islice(lines, TITLE_ROWS_MAX + 1)]
    for head in heads:
        mark = max(",;\t", key=lambda mark: _known_columns(head, mark))
        if _known_columns(head, mark) > 1:
            return mark
    return max(",;\t", key=lambda mark: _known_columns(heads[0], mark)) if heads else ","


def _known_columns(head: str, mark: str) -> int:
    return sum(_column(cell.strip(TRIMMED + '"')) is not None for cell in head.split(mark))
