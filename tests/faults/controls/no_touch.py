"""A vote API that waits for its replica without having written: WAIT then answers for an older write."""

from __future__ import annotations

from collections.abc import Sequence

from dianzan import store_promise
from vote_api.__main__ import main

_usual, _confirmed = store_promise.confirmation, store_promise.confirmed


def _without_touch(touch: str, *, waitaof: bool) -> list[store_promise.Command]:
    return _usual(touch, waitaof=waitaof)[1:]


def _confirmed_without(replies: Sequence[object]) -> bool:
    return _confirmed([1, *replies])


if __name__ == "__main__":
    store_promise.confirmation = _without_touch
    store_promise.confirmed = _confirmed_without
    main()
