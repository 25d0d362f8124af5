"""The named queries of queries.sql."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

READ_ALL_S: Final = 86_400.0  # a query that reads every row: 250 million take minutes, before the first is given too


@cache
def queries() -> dict[str, str]:
    """The named queries of queries.sql, name -> text."""
    text = (files("dianzan.ledger") / "queries.sql").read_text(encoding="utf-8")
    sections = text.split("-- name: ")[1:]
    return {name.strip(): body.strip() for name, _, body in (section.partition("\n") for section in sections)}
