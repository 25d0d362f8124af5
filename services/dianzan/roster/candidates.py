"""Owns the rules of a roster: the candidates of a CSV or XLSX file, or every bad line named."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from dianzan.domain.codes import folded
from dianzan.domain.errors import DianzanError
from dianzan.domain.shown_text import fault_of, quoted
from dianzan.roster.rows import LineProblem, Problems, RefusedError, Row
from dianzan.roster.table import Header, read_table

__all__ = ["Candidate", "LineProblem", "Roster", "RosterError", "read_roster"]

# Limits of one value; those of the file are in table.py and workbook.py. Characters are Unicode code points.
CODE_CHARS_MAX = 32  # stands in every like request
NAME_CHARS_MAX = 80  # one line on a phone, and the longest official team names
LABEL_CHARS_MAX = 60  # district, category: one line under the name
SUMMARY_CHARS_MAX = 300  # three lines of a card
STORY_CHARS_MAX = 20_000  # a long newspaper feature
PHOTO_CHARS_MAX = 500  # a URL with a signature in it

KIND_NAMES = {"": "person", "person": "person", "个人": "person", "team": "team", "团队": "team", "集体": "team"}

_CODE = re.compile(r"[a-z0-9][a-z0-9_-]*")
# No user part (it can pass for the host), no quotes or brackets (nothing to break out of an attribute with).
_PHOTO = re.compile(r"https?://[^\s/?#@\\\"'<>]+([/?#][^\s\\\"<>]*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A person or team that can be liked; an empty string means absent."""

    code: str
    name: str
    kind: str  # "person" or "team"
    district: str
    category: str
    summary: str
    story: str
    photo: str


@dataclass(frozen=True, slots=True)
class Roster:
    """A file's candidates in its order. Of a column that is not among `columns` the file says nothing."""

    candidates: list[Candidate]
    columns: frozenset[str]


class RosterError(DianzanError):
    """The file is refused whole; `problems` by line, and `more` counts those beyond the limit."""

    def __init__(self, filename: str, problems: list[LineProblem], more: int = 0) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        self.more = more
        tail = [f"… and {more:,} more"] if more else []
        lines = [f"{filename} is refused, nothing was read from it:", *map(str, self.problems), *tail]
        super().__init__("\n".join(lines))


def read_roster(filename: str, data: bytes) -> Roster:
    """Return all candidates of the file, or raise RosterError; no other exception for any bytes.

    The content decides the format, the name only appears in the message. Of a workbook the first visible sheet is read.
    """
    problems = Problems()
    try:
        header, rows = read_table(data, problems)
    except RefusedError as refused:
        problems.add(0, None, str(refused))
        raise RosterError(filename, problems.listed, problems.more) from refused
    candidates = _candidates(header, rows, problems)
    if problems.listed:
        raise RosterError(filename, problems.listed, problems.more)
    return Roster(candidates, frozenset(header.place))


def _candidates(header: Header, rows: list[Row], problems: Problems) -> list[Candidate]:
    first_lines: dict[str, int] = {}
    found = [_candidate(header, row, first_lines, problems) for row in rows]
    return [candidate for candidate in found if candidate]


def _candidate(header: Header, row: Row, first_lines: dict[str, int], problems: Problems) -> Candidate | None:
    """The row's candidate, or None with every problem of the row noted."""
    if row.fault:
        problems.add(row.line, None, row.fault)
        return None
    noted = problems.total
    if header.has_value_outside(row):
        advice = "put a text that holds the delimiter in quotation marks, or name the column"
        problems.add(row.line, None, f"has a value under no column name; {advice}")
    values: dict[str, str] = {}
    for column, check in _CHECKS.items():
        try:
            values[column] = check(header.text(row, column))
        except RefusedError as refused:
            problems.add(row.line, header.spelling[column], str(refused))
    first_line = first_lines.setdefault(values["code"], row.line) if "code" in values else row.line
    if first_line != row.line:
        message = f"{quoted(values['code'])} is already in line {first_line}; a code is used once"
        problems.add(row.line, header.spelling["code"], message)
    return Candidate(**values) if problems.total == noted else None


def _check_code(text: str) -> str:
    code = folded(text)
    if not code:
        raise RefusedError("is empty; give every candidate a short code such as c01")
    if len(code) > CODE_CHARS_MAX or not _CODE.fullmatch(code):
        rule = f"use 1 to {CODE_CHARS_MAX} of a-z, 0-9, _ and -, beginning with a letter or digit"
        raise RefusedError(f"{quoted(text)} is no code; {rule}")
    return code


def _check_name(text: str) -> str:
    if not text:
        raise RefusedError("is empty; give the name")
    return _check_line(text, NAME_CHARS_MAX)


def _check_kind(text: str) -> str:
    kind = KIND_NAMES.get(text.casefold())
    if kind is None:
        raise RefusedError(f"{quoted(text)} is no kind; write person (个人) or team (团队, 集体)")
    return kind


def _check_line(text: str, chars_max: int) -> str:
    return _check_text(text, chars_max, long=False)


def _check_text(text: str, chars_max: int, *, long: bool = True) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > chars_max:
        raise RefusedError(f"has {len(text):,} characters, at most {chars_max:,} are kept; shorten it")
    if fault := fault_of(text, long=long):
        raise RefusedError(fault)
    return text


def _check_photo(text: str) -> str:
    url = _check_line(text, PHOTO_CHARS_MAX)
    if url and not _PHOTO.fullmatch(url):
        raise RefusedError(f"{quoted(text)} is no picture address; it begins with https:// and has no spaces")
    return url


_CHECKS: dict[str, Callable[[str], str]] = {
    "code": _check_code,
    "name": _check_name,
    "kind": _check_kind,
    "district": lambda text: _check_line(text, LABEL_CHARS_MAX),
    "category": lambda text: _check_line(text, LABEL_CHARS_MAX),
    "summary": lambda text: _check_text(text, SUMMARY_CHARS_MAX),
    "story": lambda text: _check_text(text, STORY_CHARS_MAX),
    "photo": _check_photo,
}
