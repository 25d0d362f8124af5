"""The named queries of queries.sql."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | asyncpg.Connection[asyncpg.Record]"


@cache
def queries() -> dict[str, str]:
    """The named queries of queries.sql, name -> text."""
    text = (files("dianzan.ledger") / "queries.sql").read_text(encoding="utf-8")
    sections = text.split("-- name: ")[1:]
    return {name.strip(): body.strip() for name, _, body in (section.partition("\n") for section in sections)}
