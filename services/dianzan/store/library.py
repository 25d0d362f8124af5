"""The function library of the store's servers: its text, its version, and loading it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from dianzan.store.errors import mapped

NAME: Final = "dianzan"
VERSION: Final = 4


@cache
def source() -> str:
    """The library's text."""
    return (files("dianzan.store") / "functions.lua").read_text(encoding="utf-8")


async def version(client: Redis) -> int | None:
    """The version of the loaded library, None if there is none."""
    with mapped():
        try:
            return int(await client.fcall_ro("version_v1", 0))
        except ResponseError as error:
            if "not found" in str(error).lower():
                return None
            raise


async def load(client: Redis) -> bool:
    """Load the library on a server that does not have this version or a newer one; returns whether it did."""
    if (await version(client) or 0) >= VERSION:
        return False
    with mapped():
        await client.function_load(source(), replace=True)
    return True
