"""Likes cast straight at the server function, as vote APIs cast them, from the core that no server needs now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

from dianzan.domain.campaign import Document
from loadtests.bench import calls
from loadtests.bench.bed import Bed
from loadtests.bench.calls import Call
from loadtests.bench.cores import on_core
from loadtests.bench.errors import BenchError
from loadtests.bench.pump import Pipeline, pump

CALLS_A_PIPELINE = 8  # one a shard of the usual campaign


def cast(bed: Bed, document: Document, likes: int, *, per_voter: int, beside: Sequence[Bed] = ()) -> tuple[int, float]:
    """Pack at least so many likes, then send them as vote APIs do, from the core that no server needs now.

    `beside`: further primaries; the shards are dealt out to all of them in turn. Returns the likes counted, and the
    seconds from the first call to the last reply. Raises BenchError if one of them was not counted.
    """
    prepared = list(calls.packed(document, likes, per_voter=per_voter))
    replied = 0

    def on_reply(reply: bytes) -> None:
        nonlocal replied
        replied += reply.count(b"c")  # the bytes between are likes left, at most ten

    primaries = [bed, *beside]
    dealt = [[call for call in prepared if call.shard % len(primaries) == n] for n in range(len(primaries))]
    with on_core(bed.cores, "server"):
        took = pump(
            {primary.addresses.redis_url: _pipelines(part) for primary, part in zip(primaries, dealt, strict=True)},
            on_reply,
        )
    sent = sum(call.likes for call in prepared)
    if replied != sent:
        raise BenchError(f"Of {sent:,} new likes {replied:,} were counted; nothing is said of the function's speed.")
    return sent, took


def _pipelines(prepared: Iterable[Call]) -> list[Pipeline]:
    """Calls of several shards in each, as a busy vote API sends them."""
    rest = iter(prepared)
    groups = iter(lambda: list(islice(rest, CALLS_A_PIPELINE)), [])
    return [(partial(_stamped, group), len(group)) for group in groups]


def _stamped(group: Iterable[Call]) -> bytes:
    sent = calls.stamp()
    return b"".join([call.stamped(sent) for call in group])
