"""The schema after all migrations equals a checked description, and every constraint refuses a row that breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from tests.support.casting import voter
from tests.support.ledger_rows import entry, insert, november, published

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DESCRIPTION = Path(__file__).with_name("schema.txt")
TABLES = """
SELECT table_name || '.' || column_name || ' ' || data_type
    || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END
    || CASE is_identity WHEN 'YES' THEN ' identity' ELSE '' END
    || coalesce(' default ' || column_default, '') AS line
FROM information_schema.columns JOIN pg_class ON relname = table_name AND NOT relispartition
WHERE table_schema = 'public' ORDER BY table_name, ordinal_position
"""
# Newer servers list NOT NULL here too; the columns above already say it.
CONSTRAINTS = """
SELECT relname || ': ' || conname || ' ' || pg_get_constraintdef(pg_constraint.oid) AS line, conname
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE connamespace = 'public'::regnamespace AND NOT relispartition AND contype <> 'n'
ORDER BY relname, conname
"""
INDEXES = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ '^likes_'"


async def test_the_schema_is_the_one_described(ledger: Ledger, sql: Sql) -> None:
    tables = [row["line"] for row in await sql.fetch(TABLES)]
    constraints = [row["line"] for row in await sql.fetch(CONSTRAINTS)]
    found = "\n".join([*tables, "", *constraints, ""])

    assert found == DESCRIPTION.read_text(encoding="utf-8")


async def test_every_index_is_that_of_a_constraint(ledger: Ledger, sql: Sql) -> None:
    named = [row["line"] for row in await sql.fetch(CONSTRAINTS)]

    assert await sql.fetchval(INDEXES) == sum("PRIMARY KEY" in line or "UNIQUE" in line for line in named)


CAMPAIGN = "INSERT INTO campaigns (id, rules, {name}) VALUES ('other', '{{}}', {value})"
CANDIDATE = (
    "INSERT INTO candidates (campaign, candidate, code, name, kind, district, category, summary, story, photo) "
    "VALUES ({campaign}, {index}, '{code}', '', '{kind}', '', '', '', '', '')"
)
LIKE = (
    "INSERT INTO likes (liked_at, window_day, network, campaign, candidate, publisher, voter_class, voter) "
    "VALUES (now(), '2026-11-21', 0, $1, 1, 0, 1, {voter})"
)
COUNT = "INSERT INTO {table} VALUES ($1, {key}, 0, {likes})"
PUBLISHER = "INSERT INTO publishers VALUES ({campaign}, {number}, '{code}', '', '{{}}')"
CHANGE = "INSERT INTO roster_changes VALUES ({campaign}, '2026-11-21', 'c01', 'name', '', '')"
MINTED = "INSERT INTO minted VALUES ({campaign}, '2026-11-21', 1, 5)"
REVOKED = "INSERT INTO revocations (campaign, number, reason) VALUES ({campaign}, 1, '')"
SEAL = "INSERT INTO seals VALUES ({campaign}, now(), 0, 0)"
SEALED = "INSERT INTO sealed_tallies VALUES ({campaign}, {index}, 1, 0, 0)"


def _candidate(campaign: str = "$1", index: int = 9, code: str = "c99", kind: str = "person") -> str:
    return CANDIDATE.format(campaign=campaign, index=index, code=code, kind=kind)


# Constraint -> a row that breaks it and nothing else; $1 is a campaign with a like of candidate 1 by voter a, a count,
# an hour, an estimate, a publisher, a changed name, minted tokens, a revocation, and a seal.
BREAKS = {
    "campaigns_pkey": "INSERT INTO campaigns (number, id, rules) OVERRIDING SYSTEM VALUE VALUES ($1, 'other', '{}')",
    "campaigns_id_key": "INSERT INTO campaigns (id, rules) SELECT id, '{}' FROM campaigns WHERE number = $1",
    "campaign_state_is_known": CAMPAIGN.format(name="state", value="'paused'"),
    "campaign_width_is_one_or_two": CAMPAIGN.format(name="width", value="3"),
    "campaign_secret_has_32_bytes": CAMPAIGN.format(name="secret", value="'short'"),
    "candidates_campaign_fkey": _candidate(campaign="32000"),
    "candidates_pkey": _candidate(index=1),
    "candidate_code_is_unique_in_its_campaign": _candidate(code="c01"),
    "candidate_index_starts_at_one": _candidate(index=0),
    "candidate_kind_is_known": _candidate(kind="dog"),
    "minted_campaign_fkey": MINTED.format(campaign="32000"),
    "minted_pkey": MINTED.format(campaign="$1"),
    "publishers_campaign_fkey": PUBLISHER.format(campaign="32000", number=2, code="radio"),
    "publishers_pkey": PUBLISHER.format(campaign="$1", number=1, code="radio"),
    "publisher_code_is_unique_in_its_campaign": PUBLISHER.format(campaign="$1", number=2, code="paper"),
    "publisher_number_starts_at_one": PUBLISHER.format(campaign="$1", number=0, code="radio"),
    "like_counts_once": LIKE.format(voter=f"'\\x{voter('a').hex()}'"),
    "like_voter_has_16_bytes": LIKE.format(voter="'short'"),
    "counts_pkey": COUNT.format(table="counts", key=1, likes=1),
    "counts_never_fall_below_zero": COUNT.format(table="counts", key=2, likes=-1),
    "hours_pkey": "INSERT INTO hours SELECT campaign, hour, shard, 1 FROM hours WHERE campaign = $1",
    "people_estimates_pkey": COUNT.format(table="people_estimates", key=1, likes=1),
    "roster_changes_campaign_fkey": CHANGE.format(campaign="32000"),
    "roster_changes_pkey": CHANGE.format(campaign="$1"),
    "revocations_campaign_fkey": REVOKED.format(campaign="32000"),
    "revocations_pkey": REVOKED.format(campaign="$1"),
    "seals_campaign_fkey": SEAL.format(campaign="32000"),
    "seals_pkey": SEAL.format(campaign="$1"),
    "sealed_tallies_campaign_fkey": SEALED.format(campaign="32000", index=1),
    "sealed_tallies_pkey": SEALED.format(campaign="$1", index=1),
}


@pytest.fixture
async def campaign(ledger: Ledger, sql: Sql) -> StoredCampaign:
    made = await published(ledger, november())
    await insert(ledger, made, entry((voter("a"), [1])))
    await sql.execute(COUNT.format(table="people_estimates", key=1, likes=1), made.number)
    await sql.execute(PUBLISHER.format(campaign="$1", number=1, code="paper"), made.number)
    await sql.execute(CHANGE.format(campaign="$1"), made.number)
    await sql.execute(MINTED.format(campaign="$1"), made.number)
    await sql.execute(REVOKED.format(campaign="$1"), made.number)
    await sql.execute(SEAL.format(campaign="$1"), made.number)
    await sql.execute(SEALED.format(campaign="$1", index=1), made.number)
    return made


@pytest.mark.parametrize("constraint", BREAKS)
async def test_a_row_that_breaks_a_constraint_is_refused(campaign: StoredCampaign, sql: Sql, constraint: str) -> None:
    statement = BREAKS[constraint]

    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await sql.execute(statement, *([campaign.number] if "$1" in statement else []))

    # A partition's own index is named after the partition.
    named = str(refused.value.constraint_name)
    assert named == constraint or (constraint == "like_counts_once" and named.startswith("likes_"))


async def test_every_constraint_has_a_row_that_breaks_it(ledger: Ledger, sql: Sql) -> None:
    own = [row["conname"] for row in await sql.fetch(CONSTRAINTS)]

    assert sorted(set(own) - {"migrations_pkey"}) == sorted(BREAKS)
