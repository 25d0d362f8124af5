"""What was applied to a database is known by its text: tables of another release are refused, by a sentence."""

from __future__ import annotations

import asyncpg
import pytest

from dianzan.domain.errors import LedgerError
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.schema import migrations

NEWER = "INSERT INTO migrations (name) VALUES ('9999_of_the_year_after.sql')"
EDITED = "UPDATE migrations SET digest = repeat('0', 64) WHERE name = '0001_initial.sql'"


@pytest.fixture
async def migrated(empty_database_url: str) -> str:
    """The address of a database with all tables."""
    ledger = await Ledger.connect(empty_database_url)
    await ledger.migrate()
    await ledger.aclose()
    return empty_database_url


async def _run(url: str, statement: str, *arguments: str) -> None:
    sql = await asyncpg.connect(url, ssl=False)
    await sql.execute(statement, *arguments)
    await sql.close()


async def _migrate(url: str) -> list[str]:
    ledger = await Ledger.connect(url)
    try:
        return await ledger.migrate()
    finally:
        await ledger.aclose()


@pytest.mark.parametrize(
    ("change", "said"),
    [(NEWER, "9999_of_the_year_after.sql, which this release does not know"), (EDITED, "another migration 0001_")],
    ids=["newer", "edited"],
)
async def test_a_database_of_another_release_is_refused(migrated: str, change: str, said: str) -> None:
    await _run(migrated, change)

    with pytest.raises(LedgerError, match=said):
        await _migrate(migrated)
    with pytest.raises(LedgerError, match=said):
        await Ledger.refuse_unusable(migrated)


async def test_a_database_without_digests_is_adopted_and_guarded_from_then_on(migrated: str) -> None:
    await _run(migrated, "UPDATE migrations SET digest = NULL")
    await Ledger.refuse_unusable(migrated)

    assert await _migrate(migrated) == []

    await _run(migrated, EDITED)
    with pytest.raises(LedgerError, match="another migration 0001_"):
        await _migrate(migrated)


async def test_a_database_of_the_release_before_digests_gets_what_it_lacks(empty_database_url: str) -> None:
    first, second, *later = migrations()
    before = "CREATE TABLE migrations (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    await _run(empty_database_url, before)
    for name in (first, second):
        await _run(empty_database_url, migrations()[name])
        await _run(empty_database_url, "INSERT INTO migrations (name) VALUES ($1)", name)
    await Ledger.refuse_unusable(empty_database_url)

    assert await _migrate(empty_database_url) == later


async def test_a_database_without_tables_or_without_a_server_is_no_reason_to_end(empty_database_url: str) -> None:
    await Ledger.refuse_unusable(empty_database_url)
    await Ledger.refuse_unusable("postgresql://127.0.0.1:9/dianzan")
