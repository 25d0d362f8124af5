"""Reads YAML as people mean it: every value is the text that stands there, and nothing is guessed, repeated or dropped.

YAML alone turns `no` into false, 010 into 8 and the later of two equal names into the only one, without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

FILE_BYTES_MAX: Final = 200_000  # a thousand publishers with names and origins are about 150 KB
DEPTH_MAX: Final = 6  # a publisher's origins lie at 4

Place = tuple[str | int, ...]  # field names and positions in lists, from the outside
_COMMENT: Final = re.compile(r"[ \t]+#")
_EMPTY: Final = ("", "~", "null", "Null", "NULL")


class YamlRefusedError(Exception):
    """A sentence about the file as a whole, with the line where it is known."""


@dataclass(slots=True)
class YamlFile:
    """What stands in a file: texts, lists, mappings, and None for a value that is empty."""

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    cut: set[Place] = field(default_factory=set)  # texts without quotation marks that a # ends
    doubled: dict[Place, list[int]] = field(default_factory=dict)  # names that stand more than once, and their lines


def read_yaml(data: bytes) -> YamlFile:
    """Read one document. Raises YamlRefusedError, and nothing else for any bytes."""
    if len(data) > FILE_BYTES_MAX:
        raise YamlRefusedError(f"it has more than {FILE_BYTES_MAX:,} bytes, too many for a campaign file")
    text = _decoded(data)
    try:
        return _Reader(text).file()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlRefusedError(
            f"line {line}: has the character U+{_number(error.character):04X}; take it out"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise YamlRefusedError(_said(error)) from error
    except (ValueError, OverflowError) as error:  # an escape beyond Unicode, a version of a thousand digits
        raise YamlRefusedError("it has a number after \\ or % that is too large; take it out") from error


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        advice = "in the editor choose “Save as”, and there the encoding UTF-8"
        raise YamlRefusedError(f"line {line}: is written in another encoding, such as GBK; {advice}") from error


class _Reader:
    """Builds values from the parser's events, which come one by one: a hostile file ends at the first bad one."""

    def __init__(self, text: str) -> None:
        self._text, self._found = text, YamlFile()
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)

    def file(self) -> YamlFile:
        next(self._events)  # the stream
        if isinstance(next(self._events), yaml.DocumentStartEvent):
            self._found.value = self._value(next(self._events), ())
            next(self._events)  # the document's end
            after = next(self._events)
            if not isinstance(after, yaml.StreamEndEvent):
                raise YamlRefusedError(f"line {_line(after)}: a second document begins; write one a file, without ---")
        return self._found

    def _value(self, event: yaml.Event, place: Place) -> Any:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise YamlRefusedError(f"line {_line(event)}: uses & * or ! of YAML; put a text that has them in quotes")
        if len(place) > DEPTH_MAX:
            raise YamlRefusedError(f"line {_line(event)}: is nested more than {DEPTH_MAX} deep")
        self._found.lines.setdefault(place, _line(event))
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(place)
        if isinstance(event, yaml.SequenceStartEvent):
            return [
                self._value(inner, (*place, number)) for number, inner in enumerate(self._until(yaml.SequenceEndEvent))
            ]
        assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 the parser gives no other
        return self._scalar(event, place)

    def _mapping(self, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise YamlRefusedError(f"line {_line(event)}: a name stands before each colon, and no list")
            name = str(self._value(event, (*place, "")) or "")
            self._found.lines.pop((*place, ""), None)
            inner = (*place, name)
            if name in values:
                self._found.doubled.setdefault(inner, [self._found.lines[inner]]).append(_line(event))
            self._found.lines.setdefault(inner, _line(event))
            value = self._value(next(self._events), inner)
            values.setdefault(name, value)
        return values

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> str | None:
        if event.style:
            return _joined(event.value)
        if event.end_mark and _COMMENT.match(self._text, event.end_mark.index):
            self._found.cut.add(place)
        return None if event.value in _EMPTY else event.value

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        while not isinstance(event := next(self._events), end):
            yield event


def _joined(text: str) -> str:
    """JSON writes a character beyond the first 65,536 as two escapes, which YAML leaves apart."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:  # half of one
        return text


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _number(character: int | str | bytes) -> int:
    return character if isinstance(character, int) else ord(character)


def _said(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}: " if mark else ""
    advice = "write one `name: value` a line, with a plain colon and a blank, and put a text with signs in quotes"
    return f"{place}{error.problem or error.context}; {advice}"
