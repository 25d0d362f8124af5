"""A vote API that goes on by itself after a time-out, on the same connection: the next voters get others' answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from dianzan.domain.errors import ApiError
from dianzan.domain.wire import Outcome
from dianzan.store import like_link
from dianzan.store.like_link import LikeCall, LikeLink
from vote_api.__main__ import main

_usual = LikeLink.send


async def _send_and_keep(link: LikeLink, calls: Sequence[LikeCall]) -> list[list[Outcome] | ApiError]:
    kept = link._connection
    try:
        return await _usual(link, calls)
    finally:
        link._connection = kept or link._connection


async def _reply_of_an_open_connection(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True, disconnect_on_error=False)
    except ResponseError as error:
        return error


async def _close(_link: LikeLink) -> None:
    await asyncio.sleep(0)


if __name__ == "__main__":
    setattr(like_link, "STORE_TIMEOUT_S", 0.3)  # noqa: B010 a constant
    setattr(like_link, "_any_reply", _reply_of_an_open_connection)  # noqa: B010 another function of this name
    LikeLink.send = _send_and_keep  # type: ignore[assignment,method-assign]
    LikeLink.close = _close  # type: ignore[assignment,method-assign]
    main()
