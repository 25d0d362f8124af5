"""A vote API that waits for its replica without having written: WAIT then answers for an older write."""

from __future__ import annotations

from collections.abc import Sequence

from dianzan.store import durability
from vote_api.__main__ import main

_usual, _confirmed = durability.confirmation, durability.confirmed


def _without_touch(touch: str, *, waitaof: bool) -> list[durability.Command]:
    return _usual(touch, waitaof=waitaof)[1:]


def _confirmed_without(replies: Sequence[object]) -> bool:
    return _confirmed([1, *replies])


if __name__ == "__main__":
    durability.confirmation = _without_touch
    durability.confirmed = _confirmed_without
    main()
