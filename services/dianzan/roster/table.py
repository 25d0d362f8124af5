"""Owns the form of a roster file: finds format, encoding, delimiter and columns, and yields its rows as text."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Any

from dianzan.domain.limits import CANDIDATES_MAX

if TYPE_CHECKING:
    from openpyxl.cell.read_only import EmptyCell, ReadOnlyCell

# Limits of the file, beside CANDIDATES_MAX: each has its unit in the name and its reason beside it.
FILE_BYTES_MAX = 10_000_000  # 5,000 candidates with a page of text each are about 8 MB
UNPACKED_BYTES_MAX = 100_000_000  # a zip bomb packs 1,000:1; an honest workbook of 10 MB unpacks to far less
UNPACK_CHUNK_BYTES = 65_536  # unpacked at once, so that a part that lies about its size is cut off there
PARTS_MAX = 1_000  # files inside an .xlsx; a plain workbook has about a dozen
TAGS_MAX = 1_000_000  # in its XML; 5,000 rows of 8 cells have 250,000, and one costs up to 350 bytes while it is read
SHEETS_MAX = 100  # visible ones; a roster needs one, a workbook of districts has 16
SHEET_ROWS_MAX = 1_048_576  # Excel's own last row; without it a forged row number makes openpyxl count for ever
COLUMNS_MAX = 64  # eight are known; the rest is room for empty ones that spreadsheets leave behind
HEADER_CHARS_MAX = 4_000  # of the header line, looked at to find the delimiter
PROBLEMS_MAX = 200  # named one by one; more than a person mends in one sitting
PADDED_CHARS_MAX = 32  # zeros a number format may ask for; a code is no longer
QUOTED_CHARS_MAX = 40  # of a bad value repeated in a message

# A header is compared trimmed and case-folded.
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
# What Unicode calls space, and the two invisible characters that copying from web pages and old editors leaves behind.
_TRIMMED = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\u200b\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_OLD_EXCEL_START = b"\xd0\xcf\x11\xe0"
_SAVE_AS = "open it in Excel or WPS and save it as “Excel workbook (.xlsx)” or “CSV UTF-8”"


class RefusedError(Exception):
    """A sentence about a value or a whole file, raised where the line or the file's name is not known."""


@dataclass(frozen=True, slots=True)
class LineProblem:
    """What is wrong in one line (the row of a sheet, 0 for the file as a whole), and what to do about it."""

    line: int
    column: str | None  # as the file's header spells it
    message: str

    def __str__(self) -> str:
        place = f"line {self.line}" if self.line else "the file"
        return f"{place}, column {self.column}: {self.message}" if self.column else f"{place}: {self.message}"


@dataclass(slots=True)
class Problems:
    """The first PROBLEMS_MAX problems met, and how many more there were."""

    listed: list[LineProblem] = field(default_factory=list)
    more: int = 0

    def add(self, line: int, column: str | None, message: str) -> None:
        if len(self.listed) < PROBLEMS_MAX:
            self.listed.append(LineProblem(line, column, message))
        else:
            self.more += 1

    @property
    def total(self) -> int:
        return len(self.listed) + self.more


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A cell that holds something, but no text: a date, an error value."""

    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is not blank; `line` is the line on which it begins, as an editor or a spreadsheet shows it."""

    line: int
    cells: Sequence[str | Unreadable]


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
    rows = _rows(data, problems)
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
        problems.add(rows.pop().line, None, f"is beyond {CANDIDATES_MAX:,} candidates; nothing after it was looked at")
    return header, rows[1:]


def quoted(text: str) -> str:
    """A value for a message: short, and with nothing that could steer a terminal."""
    return repr(text if len(text) <= QUOTED_CHARS_MAX else text[:QUOTED_CHARS_MAX] + "…")


def _header(row: Row, problems: Problems) -> Header:
    header = Header({}, {}, frozenset(i for i, cell in enumerate(row.cells) if cell == ""), len(row.cells))
    for place, cell in enumerate(row.cells):
        name = cell if isinstance(cell, str) else "(no text)"
        column = _column(name)
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
    return _COLUMN_OF_NAME.get(name.strip(_TRIMMED).casefold())


def _rows(data: bytes, problems: Problems) -> list[Row]:
    if len(data) > FILE_BYTES_MAX:
        raise RefusedError(f"it has {len(data):,} bytes, at most {FILE_BYTES_MAX:,} are read; take out pictures")
    if data.startswith(_ZIP_STARTS):
        return _workbook_rows(data)
    if data.startswith(_OLD_EXCEL_START):
        raise RefusedError(f"it is an old .xls workbook, or protected by a password; {_SAVE_AS}, without a password")
    text = _decode(data)
    _note_nul(text, problems)
    return [] if problems.listed else _bounded(_csv_rows(text, problems))


def _bounded(rows: Iterable[Row]) -> list[Row]:
    """The rows that are not blank, cells trimmed: the header, the candidates, and at most one row too many."""
    rows_in_use: list[Row] = []
    for row in rows:
        cells = [cell.strip(_TRIMMED) if isinstance(cell, str) else cell for cell in row.cells]
        while cells and cells[-1] == "":
            cells.pop()
        if len(cells) > COLUMNS_MAX:
            raise RefusedError(f"line {row.line} has {len(cells):,} columns, at most {COLUMNS_MAX} are read")
        if cells:
            rows_in_use.append(Row(row.line, cells))
        if len(rows_in_use) > 1 + CANDIDATES_MAX:
            break
    return rows_in_use


# --- CSV ------------------------------------------------------------------------------------------------------------


def _decode(data: bytes) -> str:
    # UTF-8 goes first: Chinese text in GB18030 is almost never valid UTF-8, but UTF-8 can pass for GB18030.
    has_utf16_mark = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    reached = 0
    for encoding in ("utf-16",) if has_utf16_mark else ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError as error:
            reached = max(reached, error.start)
    tried = "UTF-16, as its first bytes say" if has_utf16_mark else "UTF-8 or GB18030 (GBK)"
    line = data.count(b"\n", 0, reached) + 1
    raise RefusedError(f"it is neither a workbook nor text in {tried}: line {line} cannot be read; {_SAVE_AS}")


def _note_nul(text: str, problems: Problems) -> None:
    if "\0" not in text:
        return
    for line, content in enumerate(io.StringIO(text, newline=""), 1):
        if "\0" in content:
            problems.add(line, None, f"has a NUL byte, so this is no plain text; {_SAVE_AS}")


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
        yield Row(line, cells)


def _delimiter(text: str) -> str:
    """The delimiter under which the header has the most known columns; texts below it hold any of the three."""
    lines = (line for line in io.StringIO(text, newline=None) if line.strip(_TRIMMED + ',;"'))
    header = next(lines, "")[:HEADER_CHARS_MAX]
    return max(
        ",;\t", key=lambda mark: sum(_column(cell.strip(_TRIMMED + '"')) is not None for cell in header.split(mark))
    )


# --- XLSX -----------------------------------------------------------------------------------------------------------


def _workbook_rows(data: bytes) -> list[Row]:
    try:
        with warnings.catch_warnings():
            # openpyxl warns of drop-down lists and missing styles, which a roster does not need.
            warnings.filterwarnings("ignore", module=r"openpyxl\.")
            return _first_sheet(_unpacked(data))
    except RefusedError:
        raise
    except Exception as error:  # both let through what they met: BadZipFile, KeyError, ParseError, zlib.error, …
        raise RefusedError(f"it is not a workbook that can be read ({type(error).__name__}); {_SAVE_AS}") from error


def _unpacked(data: bytes) -> io.BytesIO:
    """The same archive without compression, so that openpyxl can meet nothing larger than what was counted here."""
    plain_file = io.BytesIO()
    tags = 0
    with zipfile.ZipFile(io.BytesIO(data)) as packed, zipfile.ZipFile(plain_file, "w") as plain:
        _check_parts(packed.infolist())
        for part in packed.infolist():
            with packed.open(part) as source, plain.open(part.filename, "w") as target:
                while chunk := source.read(UNPACK_CHUNK_BYTES):
                    # Pictures count too: one byte in 256, far below the limit.
                    tags += chunk.count(b"<")
                    target.write(chunk)
            if tags > TAGS_MAX:
                raise RefusedError(
                    f"it has more than {TAGS_MAX:,} cells and marks; copy the roster into a new workbook"
                )
    return plain_file


def _check_parts(parts: list[zipfile.ZipInfo]) -> None:
    unpacked_bytes = sum(part.file_size for part in parts)
    if unpacked_bytes > UNPACKED_BYTES_MAX or len(parts) > PARTS_MAX:
        raise RefusedError(
            f"it unpacks to {unpacked_bytes:,} bytes in {len(parts):,} parts, at most {UNPACKED_BYTES_MAX:,} in "
            f"{PARTS_MAX:,} are read; copy the roster into a new workbook"
        )
    # The format allows these two alone; zipfile unpacks the others without a bound.
    methods = {part.compress_type for part in parts} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if methods or len({part.filename for part in parts}) < len(parts):
        raise RefusedError(f"it is packed as no spreadsheet program does it; {_SAVE_AS}")


def _first_sheet(file: io.BytesIO) -> list[Row]:
    # The import takes a tenth of a second of CPU, and only one command of all processes reads workbooks.
    import openpyxl  # noqa: PLC0415

    workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    with contextlib.closing(workbook):
        sheets = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
        if not 1 <= len(sheets) <= SHEETS_MAX:
            raise RefusedError(f"it has {len(sheets)} visible sheets; keep the one with the roster")
        for sheet in sheets:
            sheet.reset_dimensions()  # some programs write a wrong size, and rows beyond it would be lost
        for sheet in sheets[1:]:
            _refuse_second_roster(sheet.title, next(_sheet_rows(sheet.iter_rows(1, None, 1)), None))
        return _bounded(_sheet_rows(sheets[0].iter_rows(1, None, 1)))


def _refuse_second_roster(title: str, first: Row | None) -> None:
    """Notes on further sheets are ignored; candidates there must not be lost unsaid."""
    names = {_column(cell) for cell in first.cells if isinstance(cell, str)} if first else set()
    if names.issuperset(REQUIRED_COLUMNS):
        raise RefusedError(f"the sheet {quoted(title)} also holds a roster; put all candidates on the first sheet")


def _sheet_rows(rows: Iterable[tuple[Any, ...]]) -> Iterator[Row]:
    for line, cells in enumerate(rows, 1):
        if line > SHEET_ROWS_MAX:
            raise RefusedError(f"the sheet has more than {SHEET_ROWS_MAX:,} rows; delete the rows below the roster")
        yield Row(line, [_cell_text(cell) for cell in cells])


def _cell_text(cell: ReadOnlyCell | EmptyCell) -> str | Unreadable:
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "e":
        return Unreadable(f"shows the error {quoted(str(value))}; mend the formula, or type the value")
    if isinstance(value, date | time | timedelta):
        return Unreadable("was turned into a date; set the column's format to Text and type the value again")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_text(value, str(cell.number_format))
    return str(value).replace("_x000D_", "")  # how Excel stores the first half of a Windows line end


def _number_text(value: float, number_format: str) -> str:
    """A number as it is seen: 1.0 is "1", and 7 under the format 000 is "007"."""
    if not float(value).is_integer():
        return str(value)
    zeros = len(number_format) if set(number_format) == {"0"} else 0
    return str(int(value)).zfill(min(zeros, PADDED_CHARS_MAX))
