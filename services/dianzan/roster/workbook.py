"""Owns the form of a roster in a workbook: what its first sheet shows is taken, or the line is refused."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date, time, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from dianzan.domain.shown_text import quoted
from dianzan.roster.rows import COLUMNS_MAX, SAVE_AS, IsHeader, RefusedError, Row, Unreadable, bounded
from dianzan.roster.sheet_marks import SheetMarks, read_marks

if TYPE_CHECKING:
    from openpyxl.cell.read_only import EmptyCell, ReadOnlyCell

UNPACKED_BYTES_MAX = 100_000_000  # a zip bomb packs 1,000:1; an honest workbook of 10 MB unpacks to far less
UNPACK_CHUNK_BYTES = 65_536  # unpacked at once, so that a part that lies about its size is cut off there
PARTS_MAX = 1_000  # files inside an .xlsx; a plain workbook has about a dozen
TAGS_MAX = 1_000_000  # in its XML; 5,000 rows of 8 cells have 250,000, and one costs up to 350 bytes while it is read
SHEETS_MAX = 100  # visible ones; a roster needs one, a workbook of districts has 16
SHEET_ROWS_MAX = 1_048_576  # Excel's own last row; without it a forged row number makes openpyxl count for ever
HEADER_LINES_MAX = 20  # of a further sheet, looked at for a header: titles and blank rows may stand above it
PADDED_CHARS_MAX = 32  # zeros a number format may ask for; a code is no longer
NUMBER_BELOW = 10**15  # a spreadsheet keeps 15 digits of a number, and makes zeros of the others

# Part of an archive -> what it is; all are zip files, as an .xlsx is.
_OTHER_ARCHIVES = {
    "mimetype": "an OpenDocument file (.ods)",
    "xl/workbook.bin": "a binary workbook (.xlsb)",
    "word/document.xml": "a Word document",
    "Index/Document.iwa": "a file of Numbers",
}
_STRICT = b"http://purl.oclc.org/ooxml/"
# What a number format holds beside digits that changes nothing to be seen: colours, and blanks as wide as a sign.
_COLOURS = r"\[(?:black|blue|cyan|green|magenta|red|white|yellow|color\d+)\]"
_FORMAT_TRIMMINGS = re.compile(rf"{_COLOURS}|_.|\\ ", re.IGNORECASE | re.DOTALL)
_SHOWN_AS_STORED = re.compile(r"General|@|#|#?0+", re.IGNORECASE)
_FRACTION_SHOWN = re.compile(r"General|@", re.IGNORECASE)
# XlsxWriter and others write 0 as every formula's value, and ask the next program to compute them.
_LEFT_TO_COMPUTE = re.compile(rb"""fullCalcOnLoad\s*=\s*["'](?:1|true)["']""")


def workbook_rows(data: bytes, is_header: IsHeader) -> list[Row]:
    """The rows of the first visible sheet. RefusedError if it cannot be read, or another sheet is a roster too."""
    try:
        with warnings.catch_warnings():
            # openpyxl warns of drop-down lists and missing styles, which a roster does not need.
            warnings.filterwarnings("ignore", module=r"openpyxl\.")
            return _first_sheet(_unpacked(data), is_header)
    except RefusedError:
        raise
    except Exception as error:  # both let through what they met: BadZipFile, KeyError, ParseError, zlib.error, …
        raise RefusedError(f"it is not a workbook that can be read ({type(error).__name__}); {SAVE_AS}") from error


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
                    if part.filename == "xl/workbook.xml" and _STRICT in chunk:
                        raise RefusedError(f"it is a workbook of the kind “Strict Open XML”; {SAVE_AS}")
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
    names = {part.filename for part in parts}
    if methods or len(names) < len(parts):
        raise RefusedError(f"it is packed as no spreadsheet program does it; {SAVE_AS}")
    if others := [what for name, what in _OTHER_ARCHIVES.items() if name in names]:
        raise RefusedError(f"it is {others[0]}, whatever its name ends in; {SAVE_AS}")


def _first_sheet(file: io.BytesIO, is_header: IsHeader) -> list[Row]:
    # The import takes a tenth of a second of CPU, and only one command of all processes reads workbooks.
    import openpyxl  # noqa: PLC0415

    workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    with contextlib.closing(workbook):
        sheets: list[Any] = [sheet for sheet in workbook.worksheets if sheet.sheet_state == "visible"]
        if not 1 <= len(sheets) <= SHEETS_MAX:
            raise RefusedError(f"it has {len(sheets)} visible sheets; keep the one with the roster")
        for sheet in sheets:
            sheet.reset_dimensions()  # some programs write a wrong size, and rows beyond it would be lost
        for sheet in sheets[1:]:
            # Notes on further sheets are ignored; candidates there must not be lost unsaid.
            first = islice(_sheet_rows(sheet.iter_rows(1, None, 1), SheetMarks()), HEADER_LINES_MAX)
            if any(is_header(row) for row in first):
                raise RefusedError(
                    f"the sheet {quoted(sheet.title)} also holds a roster; put all candidates on the first sheet"
                )
        with sheets[0]._get_source() as source:
            marks = read_marks(
                source, zero_is_no_result=_LEFT_TO_COMPUTE.search(_part(file, "xl/workbook.xml")) is not None
            )
        return bounded(_sheet_rows(sheets[0].iter_rows(1, None, 1), marks))


def _sheet_rows(rows: Iterable[tuple[Any, ...]], marks: SheetMarks) -> Iterator[Row]:
    for line, cells in enumerate(rows, 1):
        if line > SHEET_ROWS_MAX:
            raise RefusedError(f"the sheet has more than {SHEET_ROWS_MAX:,} rows; delete the rows below the roster")
        # Empty cells may go on to column 16,384 in each row; that none has a value there was seen before.
        yield marks.shown(Row(line, [_cell_text(cell) for cell in cells[: COLUMNS_MAX + 1]]))


def _cell_text(cell: ReadOnlyCell | EmptyCell) -> str | Unreadable:
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "e":
        return Unreadable(f"shows the error {quoted(str(value))}; mend the formula, or type the value")
    if isinstance(value, date | time | timedelta):
        return Unreadable("was turned into a date; set the column's format to Text and type the value again")
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return _number_text(value, str(cell.number_format))
    return _text(str(value), str(cell.number_format))


def _text(value: str, number_format: str) -> str | Unreadable:
    if not _shows_text(number_format):
        return Unreadable(
            f"is a text shown as {quoted(number_format)}; set the column's format to Text and type what is to be seen"
        )
    return value.replace("_x000D_", "")  # how Excel stores the first half of a Windows line end


def _section(number_format: str, value: float) -> str:
    """The part of a format for a number of this sign: one for all, or positive; negative; zero; text."""
    parts = number_format.split(";")
    if value < 0 and len(parts) > 1:
        return parts[1]
    return parts[2] if value == 0 and len(parts) > 2 else parts[0]


def _shows_text(number_format: str) -> bool:
    """Whether a text stands there as it is: formats without a place for text, or with @ alone."""
    parts = number_format.split(";")
    of_text = parts[3] if len(parts) > 3 else number_format if "@" in number_format and len(parts) == 1 else "@"
    return _FORMAT_TRIMMINGS.sub("", of_text).lower() in ("@", "general")


def _part(file: io.BytesIO, name: str) -> bytes:
    with zipfile.ZipFile(file) as archive:
        return archive.read(name) if name in archive.namelist() else b""


def _number_text(value: float, number_format: str) -> str | Unreadable:
    """A number as it is seen: 1.0 is "1", and 7 under the format 000 is "007"."""
    if abs(value) >= NUMBER_BELOW:
        return Unreadable(
            "is a number of more than 15 digits, of which a spreadsheet keeps 15; set the column's format to Text and "
            "type it again"
        )
    plain_format = _FORMAT_TRIMMINGS.sub("", _section(number_format, value))
    shown = _SHOWN_AS_STORED if float(value).is_integer() else _FRACTION_SHOWN
    if not shown.fullmatch(plain_format):
        return Unreadable(
            f"is the number {value} shown as {quoted(number_format)}; set the column's format to Text and type what is "
            "to be seen"
        )
    if not float(value).is_integer():
        return f"{value:.15g}"  # as many digits as a spreadsheet shows
    zeros = len(plain_format) if set(plain_format) == {"0"} else 0
    return str(int(value)).zfill(min(zeros, PADDED_CHARS_MAX))
