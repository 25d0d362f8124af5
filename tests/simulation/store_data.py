"""The data of a simulated store server, how a logged effect changes it, and the commands that only read or write it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Effect = tuple[Any, ...]
Record = tuple[Effect, ...]  # what one command has changed, atomically


class Stream:
    """Entries in order of their ids; the last id is remembered when its entry is gone."""

    __slots__ = ("entries", "last")

    def __init__(self) -> None:
        self.entries: dict[bytes, dict[bytes, bytes]] = {}
        self.last = (0, 0)


def order_of(entry_id: bytes) -> tuple[int, int]:
    """Milliseconds and sequence of an entry's id."""
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence or 0)


def _set(data: dict[bytes, Any], key: bytes, value: bytes) -> None:
    data[key] = value


def _hset(data: dict[bytes, Any], key: bytes, field: bytes, value: bytes) -> None:
    data.setdefault(key, {})[field] = value


def _hincrby(data: dict[bytes, Any], key: bytes, field: bytes, by: int) -> None:
    found = data.setdefault(key, {})
    found[field] = b"%d" % (int(found.get(field, 0)) + by)


def _incr(data: dict[bytes, Any], key: bytes) -> int:
    data[key] = b"%d" % (int(data.get(key, 0)) + 1)
    return int(data[key])


def _xadd(data: dict[bytes, Any], key: bytes, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
    stream = data.get(key)
    if stream is None:
        stream = data[key] = Stream()
    stream.entries[entry_id] = fields
    stream.last = order_of(entry_id)


def _xdel(data: dict[bytes, Any], key: bytes, entry_id: bytes) -> None:
    data[key].entries.pop(entry_id, None)


def _pfadd(data: dict[bytes, Any], key: bytes, *found: bytes) -> None:
    data.setdefault(key, set()).update(found)


def _del(data: dict[bytes, Any], key: bytes) -> None:
    data.pop(key, None)


EFFECTS: dict[str, Callable[..., Any]] = {
    "SET": _set,
    "HSET": _hset,
    "HINCRBY": _hincrby,
    "INCR": _incr,
    "XADD": _xadd,
    "XDEL": _xdel,
    "PFADD": _pfadd,
    "DEL": _del,
}


def apply(data: dict[bytes, Any], record: Record) -> None:
    """Change the data as one command has."""
    for name, *args in record:
        EFFECTS[name](data, *args)


def replayed(log: Iterable[Record]) -> dict[bytes, Any]:
    """The data that a log makes."""
    data: dict[bytes, Any] = {}
    for record in log:
        apply(data, record)
    return data


# ---- commands that read ---------------------------------------------------------------------------------------------


def _xrange(data: dict[bytes, Any], args: Sequence[Any]) -> Any:
    """key, first, last, COUNT, n; a first that begins with '(' is left out itself."""
    stream: Stream | None = data.get(args[0])
    if stream is None:
        return []
    found = list(stream.entries.items())
    if args[1] != b"-":
        after = order_of(args[1].lstrip(b"("))
        found = [entry for entry in found if order_of(entry[0]) > after]
    return [(entry_id, dict(fields)) for entry_id, fields in found[: int(args[4])]]


def _view_v1(data: dict[bytes, Any], args: Sequence[Any]) -> Any:
    """What a shard counts and its oldest entries, as flat lists."""
    _function, _count, counts, stream, most = args
    entries = _xrange(data, [stream, b"-", b"+", b"COUNT", most])
    return [_flat(data.get(counts, {})), [[entry_id, _flat(fields)] for entry_id, fields in entries]]


def _flat(found: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in found.items() for part in pair]


READS: dict[bytes, Callable[[dict[bytes, Any], Sequence[Any]], Any]] = {
    b"GET": lambda data, args: data.get(args[0]),
    b"HGET": lambda data, args: data.get(args[0], {}).get(args[1]),
    b"HGETALL": lambda data, args: dict(data.get(args[0], {})),
    b"HLEN": lambda data, args: len(data.get(args[0], ())),
    b"XLEN": lambda data, args: len(data[args[0]].entries) if args[0] in data else 0,
    b"PFCOUNT": lambda data, args: len(data.get(args[0], ())),
    b"MEMORY USAGE": lambda data, args: 100 * len(data[args[0]].entries) if args[0] in data else None,
    b"XRANGE": _xrange,
    b"FCALL_RO": _view_v1,
}
