"""What the two forms of a roster file have in common: rows of trimmed text, and sentences about what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from dianzan.domain.limits import CANDIDATES_MAX

COLUMNS_MAX = 64  # eight are known; the rest is room for empty ones that spreadsheets leave behind
TITLE_ROWS_MAX = 5  # above the line that names the columns: what the table is, who made it
PROBLEMS_MAX = 200  # named one by one; more than a person mends in one sitting

# What Unicode calls space, and the two invisible characters that copying from web pages and old editors leaves behind.
TRIMMED = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\u200b\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)
SAVE_AS = "open it in Excel or WPS and save it as “Excel workbook (.xlsx)” or “CSV UTF-8”"


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
    fault: str | None = None  # what is wrong with the row as a whole


IsHeader = Callable[[Row], bool]


def bounded(rows: Iterable[Row]) -> list[Row]:
    """The rows that are not blank, cells trimmed: titles, the header, the candidates, and at most one row too many."""
    rows_in_use: list[Row] = []
    for row in rows:
        cells = [cell.strip(TRIMMED) if isinstance(cell, str) else cell for cell in row.cells]
        while cells and cells[-1] == "":
            cells.pop()
        if len(cells) > COLUMNS_MAX:
            raise RefusedError(f"line {row.line} has {len(cells):,} columns, at most {COLUMNS_MAX} are read")
        if cells:
            rows_in_use.append(Row(row.line, cells, row.fault))
        if len(rows_in_use) > TITLE_ROWS_MAX + 1 + CANDIDATES_MAX:
            break
    return rows_in_use
