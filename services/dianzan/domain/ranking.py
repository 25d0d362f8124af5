"""Ranks from counts."""

from __future__ import annotations

from collections.abc import Mapping


def ranked(likes: Mapping[int, int]) -> dict[int, int]:
    """Candidate -> rank, most likes first; equal counts share a rank and the next one is skipped (1, 1, 3)."""
    ordered = sorted(likes.values(), reverse=True)
    first: dict[int, int] = {}
    for rank, count in enumerate(ordered, start=1):
        first.setdefault(count, rank)
    return {candidate: first[count] for candidate, count in likes.items()}
