"""Figures 6, 7 and 12: the server function alone on one core: its rate, its memory, and both in a large window."""

from __future__ import annotations

from dianzan.domain.campaign import Document
from loadtests.bench.bed import QUOTA, Bed, published
from loadtests.bench.casting import cast
from loadtests.bench.cores import cpu_seconds
from loadtests.bench.figures import Measured, ratios
from loadtests.bench.options import Scale

LIKES_A_STEP = 1_000_000  # packed and sent before the streams are dropped: bounds the memory of both
ROUND_SHARE = 10  # of a window's likes, one in ten is measured, in rounds


def rate(bed: Bed, scale: Scale) -> list[Measured]:
    """Figure 6: one like a voter and ten, in turn, each round from an empty store."""
    document = published(bed, "function")
    kinds = {"6a": (1, scale.function_likes), "6b": (QUOTA, 2 * scale.function_likes)}
    rates: dict[str, list[float]] = {key: [] for key in kinds}
    busy: dict[str, list[float]] = {key: [] for key in kinds}
    for turn in range(-1, scale.rounds):
        for key, (per_voter, likes) in kinds.items():
            bed.clear(document)
            before = cpu_seconds(bed.valkey_pid)
            counted, took = cast(bed, document, likes, per_voter=per_voter)
            if turn >= 0:  # the first warms up
                rates[key].append(counted / took)
                busy[key].append(round((cpu_seconds(bed.valkey_pid) - before) / took, 3))
    return [Measured(key, rates[key], details={"store_core_busy": busy[key]}) for key in kinds]


def memory(bed: Bed, scale: Scale) -> list[Measured]:
    """Figure 7: bytes a like by used_memory, streams dropped, in buckets as full as they were meant to be."""
    kinds = {"7a": 5, "7b": 1}
    found: dict[str, list[float]] = {key: [] for key in kinds}
    for turn in range(min(scale.rounds, 3)):  # it hardly differs from round to round
        for key, per_voter in kinds.items():
            document = published(bed, f"memory-{per_voter}-{turn}", voters=scale.memory_voters)
            before = used(bed)
            likes = fill(bed, document, scale.memory_voters * per_voter, per_voter=per_voter)
            bed.drain(document)
            found[key].append((used(bed) - before) / likes)
            bed.clear(document)
    return [Measured(key, found[key], details={"voters": scale.memory_voters}) for key in kinds]


def growth(bed: Bed, scale: Scale) -> list[Measured]:
    """Figure 12: rate and bytes a like at the end of a small window and of a large one, each sized for its voters.

    Both are filled first, and then played in turn, so that the machine's mood is the same for both.
    """
    measured = scale.growth[0] // ROUND_SHARE
    windows = {likes: published(bed, f"growth-{likes}", voters=likes) for likes in scale.growth}
    held = {likes: fill(bed, windows[likes], likes - scale.rounds * measured, per_voter=1) for likes in windows}
    rates: dict[int, list[float]] = {likes: [] for likes in windows}
    for _ in range(scale.rounds):
        for likes, document in windows.items():
            bed.drain(document)
            counted, took = cast(bed, document, measured, per_voter=1)
            rates[likes].append(counted / took)
            held[likes] += counted
    sizes = {likes: _forget(bed, windows[likes]) / held[likes] for likes in windows}
    small, large = scale.growth
    note, details = f"{large:,} likes", {"likes": list(scale.growth), "rates": rates, "bytes_a_like": sizes}
    return [
        Measured("12a", ratios("12a", rates[large], rates[small]).rounds, note, details),
        Measured("12b", [sizes[large] / sizes[small]], note),
    ]


def _forget(bed: Bed, document: Document) -> int:
    """Bytes that become free when a campaign's likes are forgotten, those in the streams not counted."""
    bed.drain(document)
    before = used(bed)
    bed.clear(document)
    return before - used(bed)


def fill(bed: Bed, document: Document, likes: int, *, per_voter: int) -> int:
    """Count at least so many likes, dropping the streams on the way; returns how many were counted."""
    done = 0
    while done < likes:
        counted, _took = cast(bed, document, min(LIKES_A_STEP, likes - done), per_voter=per_voter)
        done += counted
        if done < likes:
            bed.drain(document)
    return done


def used(bed: Bed) -> int:
    """Bytes that the store's allocator has given out, once it is at rest."""
    bed.settle()
    return int(bed.valkey.info("memory")["used_memory"])
