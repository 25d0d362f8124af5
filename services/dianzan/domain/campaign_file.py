"""A campaign file becomes rules, or an error that names every wrong line and says what to write."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from dianzan.domain.campaign import Publisher, Rules
from dianzan.domain.errors import CampaignError
from dianzan.domain.limits import EXPECTED_VOTERS_MAX, LIKES_PER_WINDOW_MAX, SHARDS_MAX
from dianzan.domain.shown_text import fault_of, quoted
from dianzan.domain.strict_yaml import FILE_BYTES_MAX, Place, YamlFile, YamlRefusedError, read_yaml

_LINES: Final = ("title_en", "brand", "brand_en", "organiser", "contact", "icp_number")
_PARAGRAPHS: Final = ("introduction", "how_to_like", "privacy")
_NAME: Final = "use 1 to 32 of a-z, 0-9 and -, beginning with a letter or digit"
_TIME: Final = "write a date or a time, such as 2026-12-01 or 2026-12-01 08:00"
# Field -> what to write. A field that is not here has pydantic's own words.
_WRITE: Final = {
    "id": _NAME,
    "title": "write 1 to 120 characters",
    "opens": _TIME,
    "closes": _TIME,
    "timezone": "write one like Asia/Shanghai",
    "window": "write day or campaign",
    "likes_per_window": f"write a whole number from 1 to {LIKES_PER_WINDOW_MAX}",
    "voter_classes": "write a list, such as [device] or [device, verified]",
    "results": "write live or hidden",
    "shards": f"write a whole number from 1 to {SHARDS_MAX}",
    "expected_voters": f"write a whole number from 1 to {EXPECTED_VOTERS_MAX}",
    "publishers": "write a list of names, such as [bjnews, btime]",
    **dict.fromkeys(_LINES, "write at most 120 characters"),
    **dict.fromkeys(_PARAGRAPHS, "write at most 4,000 characters"),
    "code": _NAME,
    "name": "write at most 120 characters",
    "origins": "write a list, such as [https://www.example.cn]",
}
_TEXTS: Final = frozenset({"title", "name", *_LINES, *_PARAGRAPHS})
_ONE_LINE: Final = frozenset({"title", "name", *_LINES})
_WHOLE_NUMBERS: Final = frozenset(name for name, field in Rules.model_fields.items() if field.annotation is int)
_WHOLE_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_DAY: Final = re.compile(r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?(?:[ T]+(\d{1,2}):(\d{2})(?::\d{2})?)?")

Slips = dict[Place, str]


def start_of(path: Path, bytes_max: int) -> bytes:
    """The first bytes of an operator's file. Raises CampaignError if it cannot be read."""
    try:
        if path.is_fifo() or path.is_socket() or path.is_char_device():  # reading would wait, or never end
            raise CampaignError(f"{path} is no file: give the path of one.")
        with path.open("rb") as file:
            return file.read(bytes_max)
    except (OSError, ValueError) as error:  # a path with a NUL in it is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise CampaignError(f"{path} cannot be read: {reason}. Give the path of the file.") from error


def read_rules(path: Path) -> Rules:
    """Read a campaign file. Raises CampaignError that names every wrong line, its field and what to write."""
    try:
        found = read_yaml(start_of(path, FILE_BYTES_MAX + 1))
    except YamlRefusedError as refused:
        raise CampaignError(f"{path} is not YAML in UTF-8 as a campaign file is: {refused}.") from refused
    return parse_rules(found.value, str(path), found)


def parse_rules(raw: object, source: str, file: YamlFile | None = None) -> Rules:
    """Check the content of a campaign file. Raises CampaignError naming every problem, by line if `file` tells it."""
    file = file or YamlFile()
    slips: Slips = {place: _doubled(lines) for place, lines in file.doubled.items()}
    for place, value in _values(raw, ()):
        if slip := _slip(place, value, cut=place in file.cut):
            slips.setdefault(place, slip)
    rules = None
    try:
        rules = Rules.model_validate(_with_numbers(raw), extra="forbid")
    except ValidationError as error:
        for each in error.errors():
            place = each["loc"]
            if not any(place[: len(known)] == known for known in slips if known):
                slips.setdefault(place, _problem(each))
    if slips or rules is None:
        ordered = sorted(slips.items(), key=lambda item: _line(item[0], file.lines))
        lines = [f"{_named(place, file.lines)}: {slip}" for place, slip in ordered]
        raise CampaignError(f"{source} is refused:\n  " + "\n  ".join(lines))
    return rules


def _values(raw: object, place: Place) -> Iterator[tuple[Place, object]]:
    """Every value that is no list and no mapping, with its place."""
    if isinstance(raw, Mapping):
        for name, value in raw.items():
            yield from _values(value, (*place, str(name)))
    elif isinstance(raw, list | tuple):
        for number, value in enumerate(raw):
            yield from _values(value, (*place, number))
    else:
        yield place, raw


def _slip(place: Place, value: object, *, cut: bool) -> str | None:
    """What is wrong with one value, that the rules would not see or would not explain."""
    name = _field(place)
    if not isinstance(value, str) or not place or place[0] not in Rules.model_fields:
        return None
    if cut and (name in _TEXTS or name not in _WRITE):
        return f"is read as {quoted(value)}, since # begins a comment; put the whole text in quotation marks"
    if len(place) == 1 and name in _WHOLE_NUMBERS and not _WHOLE_NUMBER.fullmatch(value):
        meant = re.sub(r"[\s_,']", "", unicodedata.normalize("NFKC", value)).lstrip("0")
        advice = f"write {meant}" if _WHOLE_NUMBER.fullmatch(meant) else _WRITE.get(name, "write a whole number")
        return f"{quoted(value)} is not a plain number; {advice}"
    return fault_of(value, long=name not in _ONE_LINE)


def _with_numbers(raw: object) -> object:
    if not isinstance(raw, dict):
        return raw
    return {
        name: int(value)
        if name in _WHOLE_NUMBERS and isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value)
        else value
        for name, value in raw.items()
    }


def _problem(error: ErrorDetails) -> str:
    """A problem of pydantic's in words that say what to write."""
    place, kind, value = error["loc"], error["type"], error["input"]
    name = _field(place)
    write = _WRITE.get(name)
    if kind == "extra_forbidden":
        return _no_such_field(str(place[-1]), _known_fields(place))
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if write is None:
        return error["msg"]
    if name in ("opens", "closes") and (meant := _time_meant(value)):
        write = f"write {meant}"
    return f"{_what_is_there(kind, value)}; {write}"


def _what_is_there(kind: str, value: Any) -> str:
    if kind == "missing":
        return "is missing"
    if value is None or value == "":
        return "is empty"
    if kind in ("string_too_long", "too_long"):
        return f"has {len(value):,} {'characters' if kind == 'string_too_long' else 'items'}"
    return f"{quoted(value) if isinstance(value, str) else f'{value!r:.60}'} is not right"


def _known_fields(place: Place) -> Sequence[str]:
    if len(place) == 1:
        return list(Rules.model_fields)
    return list(Publisher.model_fields) if place[0] == "publishers" else []


def _no_such_field(name: str, known: Sequence[str]) -> str:
    meant = get_close_matches(name.lower().replace("-", "_"), known, n=1)
    advice = f"; did you mean {meant[0]}?" if meant else f"; known are {', '.join(known)}" if known else ""
    return f"there is no such field{advice}"


def _time_meant(value: object) -> str | None:
    """2026-12-02 00:00 for 2026/12/01 24:00; None if there is no telling."""
    parts = _DAY.fullmatch(unicodedata.normalize("NFKC", value).strip()) if isinstance(value, str) else None
    if parts is None:
        return None
    year, month, day, hour, minute = (int(part or 0) for part in parts.groups())
    try:
        meant = datetime(year, month, day) + timedelta(hours=hour, minutes=minute)
    except (ValueError, OverflowError):
        return None
    return f"{meant:%Y-%m-%d %H:%M}" if hour <= 24 and minute < 60 else None


def _doubled(lines: list[int]) -> str:
    return f"stands more than once, in lines {' and '.join(map(str, lines))}; keep one"


def _field(place: Place) -> str:
    """The innermost name of a place; of a publisher that is a bare name, `code`."""
    names = [part for part in place if isinstance(part, str)]
    return "code" if len(place) == 2 and place[0] == "publishers" else names[-1] if names else ""


def _line(place: Place, lines: Mapping[Place, int]) -> int:
    while place and place not in lines:
        place = place[:-1]
    return lines.get(place, 0) if place else 0


def _named(place: Place, lines: Mapping[Place, int]) -> str:
    line = _line(place, lines)
    # A name that is no word could steer a terminal.
    name = ".".join(
        str(part) if str(part).isalnum() or str(part).isidentifier() else quoted(str(part)) for part in place
    )
    name = name or "file"
    return f"line {line}, {name}" if line else name
