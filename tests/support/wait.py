"""Waiting for a condition, with a limit; the only place in the tests that lets time pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

POLL_S = 0.02


async def until(look: Callable[[], Awaitable[Found]], *, within_s: float = 10, what: str = "") -> Found:
    """Look again and again until what is found is true; fail with the last thing seen."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or look}; last seen: {found!r}"
        await asyncio.sleep(POLL_S)
    return found
