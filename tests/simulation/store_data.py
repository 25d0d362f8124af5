"""The data of a simulated store server, and the commands that production sends, as functions of it.

Commands take bytes and give what RESP2 carries: bytes, int, None, lists of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from operator import ge, gt
from typing import Any, Final

Data = dict[bytes, Any]
Command = Sequence[bytes]
Record = tuple[Command, ...]  # the commands that one call has written, atomically


class Status(bytes):
    """A reply like OK, which a function sees as a table and a client as text."""

    __slots__ = ()


OK: Final = Status(b"OK")


class Stream:
    """Entries in order of their ids, fields and values in turn; the last id is remembered when its entry is gone."""

    __slots__ = ("entries", "last")

    def __init__(self) -> None:
        self.entries: dict[bytes, tuple[bytes, ...]] = {}
        self.last = (0, 0)


def order_of(entry_id: bytes) -> tuple[int, int]:
    """Milliseconds and sequence of an entry's id."""
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence or 0)


def apply(data: Data, records: Iterable[Record]) -> None:
    """Write again what was written."""
    for record in records:
        for name, *args in record:
            WRITES[name](data, *args)


# ---- commands that read ---------------------------------------------------------------------------------------------


def _flat(pairs: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in pairs.items() for part in pair]


def _entries(data: Data, key: bytes) -> dict[bytes, tuple[bytes, ...]]:
    return data[key].entries if key in data else {}


def _xrange(data: Data, key: bytes, first: bytes, last: bytes, *count: bytes) -> list[list[Any]]:
    """COUNT at the end or nothing; a first that begins with '(' is left out itself."""
    entries = list(_entries(data, key).items())
    if first != b"-":
        above, least = (gt, order_of(first[1:])) if first.startswith(b"(") else (ge, order_of(first))
        entries = [entry for entry in entries if above(order_of(entry[0]), least)]
    if last != b"+":
        entries = [entry for entry in entries if order_of(entry[0]) <= order_of(last)]
    return [[entry_id, list(fields)] for entry_id, fields in entries[: int(count[1]) if count else None]]


def _scan(data: Data, _cursor: bytes, *options: bytes) -> list[Any]:
    """All at once; of patterns those that end in their only star."""
    pattern = dict(zip(options[::2], options[1::2], strict=True)).get(b"MATCH", b"*")
    prefix = pattern.removesuffix(b"*").replace(b"\\", b"")
    return [b"0", [key for key in data if key.startswith(prefix)]]


READS: Final[dict[bytes, Callable[..., Any]]] = {
    b"GET": lambda data, key: data.get(key),
    b"HGET": lambda data, key, field: data.get(key, {}).get(field),
    b"HGETALL": lambda data, key: _flat(data.get(key, {})),
    b"HLEN": lambda data, key: len(data.get(key, ())),
    b"XLEN": lambda data, key: len(_entries(data, key)),
    b"XRANGE": _xrange,
    b"PFCOUNT": lambda data, key: len(data.get(key, ())),  # exact here
    b"MEMORY": lambda data, _usage, key: 100 * len(_entries(data, key)) if key in data else None,
    b"SCAN": _scan,
    b"DUMP": lambda data, key: pickle.dumps(data[key]),  # for tests that compare
}


# ---- commands that write --------------------------------------------------------------------------------------------


def _set(data: Data, key: bytes, value: bytes) -> Status:
    data[key] = value
    return OK


def _incr(data: Data, key: bytes, by: bytes = b"1") -> int:
    data[key] = b"%d" % (int(data.get(key, 0)) + int(by))
    return int(data[key])


def _hset(data: Data, key: bytes, *pairs: bytes) -> int:
    fields = data.setdefault(key, {})
    before = len(fields)
    fields.update(zip(pairs[::2], pairs[1::2], strict=True))
    return len(fields) - before


def _hincrby(data: Data, key: bytes, field: bytes, by: bytes) -> int:
    return _incr(data.setdefault(key, {}), field, by)


def _xadd(data: Data, key: bytes, entry_id: bytes, *fields: bytes) -> bytes:
    stream = data.setdefault(key, Stream())
    stream.entries[entry_id] = fields
    stream.last = order_of(entry_id)
    return entry_id


def _xdel(data: Data, key: bytes, *entry_ids: bytes) -> int:
    entries = _entries(data, key)
    return sum(entries.pop(entry_id, None) is not None for entry_id in entry_ids)


def _xtrim(data: Data, key: bytes, _minid: bytes, least: bytes) -> int:
    return _xdel(data, key, *(entry_id for entry_id in _entries(data, key) if order_of(entry_id) < order_of(least)))


def _pfadd(data: Data, key: bytes, *members: bytes) -> int:
    known = data.setdefault(key, set())
    before = len(known)
    known.update(members)
    return int(len(known) > before)


def _unlink(data: Data, *keys: bytes) -> int:
    return sum(data.pop(key, None) is not None for key in keys)


WRITES: Final[dict[bytes, Callable[..., Any]]] = {
    b"SET": _set,
    b"INCR": _incr,
    b"INCRBY": _incr,
    b"HSET": _hset,
    b"HINCRBY": _hincrby,
    b"XADD": _xadd,  # with an id, as a server writes it into its log
    b"XDEL": _xdel,
    b"XTRIM": _xtrim,
    b"PFADD": _pfadd,
    b"UNLINK": _unlink,
    b"DEL": _unlink,
    b"EXPIRE": lambda data, key, _seconds: int(key in data),  # no history is as long as a life
}
# Of those, what has written nothing where it replies 0, so that there is nothing to log.
MAY_WRITE_NOTHING: Final = frozenset({b"XDEL", b"XTRIM", b"PFADD", b"UNLINK", b"DEL", b"EXPIRE"})
