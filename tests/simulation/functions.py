"""What functions.lua does, in Python over the simulated server's data; test_simulation.py holds it to the model."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from redis.exceptions import ResponseError

from dianzan.domain.limits import CLOCK_SKEW_MS_MAX, LIKES_PER_CALL_MAX

_GATE = struct.Struct(">IHBIQQ")
_HEAD = 24
_CLOSED = b"closed"
_BEHIND = b"behind"


class Data(Protocol):
    """What a function may do to the server it runs on."""

    data: dict[bytes, Any]

    def now_ms(self) -> int:
        """The server's clock."""

    def write(self, *effect: Any) -> Any:
        """Change the data, in the log too."""

    def next_id(self, stream: bytes) -> bytes:
        """The id of the next entry."""


def like_v1(server: Data, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
    """Count a batch of likes."""
    gate = server.data.get(keys[0])
    if gate in (None, _BEHIND):
        return ResponseError("UNGATED the shard has no gate")
    if gate == _CLOSED:
        return ResponseError("SHUT the shard is closed")
    version, quota, width, buckets, opens_ms, closes_ms = _GATE.unpack(gate)
    refused = _refused(server.now_ms(), args, version, opens_ms, closes_ms)
    if refused:
        return ResponseError(refused)
    ballots = list(_ballots(args[6], width))
    if sum(len(liked) for _head, liked in ballots) > LIKES_PER_CALL_MAX or len(args[5]) != 8:
        return ResponseError("MALFORMED ballots")
    changed, added, ledger, reply = _decide_all(server.data, ballots, _Rules(keys[3], quota, width, buckets))
    for (key, field), mark in changed.items():
        server.write("HSET", key, field, mark)
    for index, likes in added.items():
        server.write("HINCRBY", keys[1], b"%d" % int.from_bytes(index, "big"), likes)
    if changed:
        fields = {b"v": b"%d" % width, b"w": args[1], b"t": b"%d" % server.now_ms(), b"b": args[5], b"d": ledger}
        server.write("XADD", keys[2], server.next_id(keys[2]), fields)
    return reply


def _refused(now_ms: int, args: Sequence[bytes], version: int, opens_ms: int, closes_ms: int) -> str:
    if version != int(args[0]):
        return f"STALE the shard has rules version {version}"
    if abs(now_ms - int(args[4])) > CLOCK_SKEW_MS_MAX:
        return f"SKEWED the store is at {now_ms}"
    if now_ms < opens_ms:
        return "EARLY not open yet"
    if now_ms >= closes_ms:
        return "LATE closed by the clock"
    return "" if int(args[2]) <= now_ms < int(args[3]) else "WINDOW has ended"


def _ballots(packed: bytes, width: int) -> Iterable[tuple[bytes, list[bytes]]]:
    at = 0
    while at < len(packed):
        start = at + _HEAD
        end = start + packed[start - 1] * width
        yield packed[at:start], [packed[i : i + width] for i in range(start, end, width)]
        at = end


class _Rules(NamedTuple):
    prefix: bytes
    quota: int
    width: int
    buckets: int


def _decide_all(
    data: Mapping[bytes, Any], ballots: Iterable[tuple[bytes, list[bytes]]], rules: _Rules
) -> tuple[dict[tuple[bytes, bytes], bytes], dict[bytes, int], bytes, bytes]:
    """The marks to set, likes per index, the ledger bytes and the reply."""
    prefix, quota, width, buckets = rules
    changed: dict[tuple[bytes, bytes], bytes] = {}
    added: dict[bytes, int] = {}
    ledger, reply = [], []
    for head, indexes in ballots:
        place = prefix + b"%d" % (int.from_bytes(head[4:8], "big") % buckets), head[8:14]
        mark = changed.get(place) or data.get(place[0], {}).get(place[1], b"")
        liked = [mark[i : i + width] for i in range(0, len(mark), width)]
        fresh, statuses = [], b""
        for index in indexes:
            if index in liked:
                statuses += b"a"
            elif len(liked) >= quota:
                statuses += b"q"
            else:
                liked.append(index)
                fresh.append(index)
                added[index] = added.get(index, 0) + 1
                statuses += b"c"
        if fresh:
            changed[place] = b"".join(liked)
            ledger.append(head[:23] + bytes([len(fresh)]) + b"".join(fresh))
        reply.append(statuses + struct.pack(">H", max(0, quota - len(liked))))
    return changed, added, b"".join(ledger), b"".join(reply)


def open_v1(server: Data, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
    """Open a shard, or give an open shard other rules."""
    gate = server.data.get(keys[0])
    if gate == _CLOSED:
        return ResponseError("SHUT the shard is closed for good")
    gate = None if gate == _BEHIND else gate
    if gate is None and args[1] != b"first":
        return ResponseError("UNGATED the shard has lost its gate")
    if gate is not None and gate[:4] > args[0][:4]:
        return ResponseError("OLDER the shard has rules of a later version")
    server.write("SET", keys[0], args[0])
    return b"OK"


def close_v1(server: Data, keys: Sequence[bytes], _args: Sequence[bytes]) -> Any:
    """Close a shard for good."""
    server.write("SET", keys[0], _CLOSED)
    return b"OK"


def ungate_v1(server: Data, keys: Sequence[bytes], _args: Sequence[bytes]) -> Any:
    """Take the gate from an open shard."""
    if server.data.get(keys[0]) in (None, _CLOSED, _BEHIND):
        return 0
    server.write("SET", keys[0], _BEHIND)
    return 1


def clear_v1(server: Data, keys: Sequence[bytes], _args: Sequence[bytes]) -> Any:
    """Remove keys of a shard that takes no likes."""
    if server.data.get(keys[0]) not in (None, _CLOSED, _BEHIND):
        return ResponseError("GATED the shard takes likes")
    found = [key for key in keys[1:] if key in server.data]
    for key in found:
        server.write("DEL", key)
    return len(found)


def document_v1(server: Data, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
    """Store a campaign's document."""
    stored = server.data.get(keys[0])
    if stored is not None and json.loads(stored)["version"] > int(args[0]):
        return ResponseError("OLDER the store has a later version")
    server.write("SET", keys[0], args[1])
    return b"OK"


def announce_v1(server: Data, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
    """Name a document's version."""
    if int(server.data.get(keys[0], {}).get(args[0], 0)) < int(args[1]):
        server.write("HSET", keys[0], args[0], args[1])
    return b"OK"


def remove_v1(server: Data, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
    """Remove committed entries by id and batch id."""
    stream = server.data.get(keys[0])
    removed = 0
    for entry_id, batch in zip(args[::2], args[1::2], strict=True):
        found = stream.entries.get(entry_id) if stream else None
        if found is not None and found[b"b"] == batch:
            server.write("XDEL", keys[0], entry_id)
            removed += 1
    return removed


def keep_v1(server: Data, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
    """Remove committed entries by id and batch id, and keep them in the second stream; for ever and any number."""
    stream = server.data.get(keys[0])
    kept = 0
    for entry_id, batch in zip(args[2::2], args[3::2], strict=True):
        found = stream.entries.get(entry_id) if stream else None
        if found is not None and found[b"b"] == batch:
            server.write("XADD", keys[1], server.next_id(keys[1]), found)
            server.write("XDEL", keys[0], entry_id)
            kept += 1
    return kept


FUNCTIONS: dict[bytes, Callable[[Data, Sequence[bytes], Sequence[bytes]], Any]] = {
    function.__name__.encode(): function
    for function in (
        like_v1,
        open_v1,
        close_v1,
        ungate_v1,
        clear_v1,
        document_v1,
        announce_v1,
        remove_v1,
        keep_v1,
    )
}
