"""A recount looks at everything that is published: whatever is changed by SQL before or after the seal, it says so."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from loadtests.system import own_environment
from redis.asyncio import Redis

from dianzan.domain.errors import CampaignError
from dianzan.ledger.ledger import Ledger
from dianzan.life.recount import recount
from dianzan.life.sealed import against_published, against_seal, digests
from dianzan.store import keys
from dianzan.store.like_link import LikeLink
from tests.support import tampering
from tests.support.commands import command
from tests.support.tampering import Sql
from tests.support.way import Way, ballots, make_way


@pytest.fixture
async def way(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Way:
    made = await make_way(valkey, ledger, valkey_link, shards=4)
    await made.cast(*ballots(0, 40))
    await made.flush()
    return made


async def differences(way: Way, *, ledger_only: bool = False) -> list[str]:
    """What a recount says."""
    campaign = await way.lifecycle.stored(way.campaign.id)
    counted = await recount(None if ledger_only else way.store, way.ledger, campaign)
    _seal, lines = await against_seal(way.ledger, campaign, counted)
    return [*counted.differences().splitlines(), *lines]


AFTER = {
    "ranks": "UPDATE sealed_tallies SET rank = 3 - rank WHERE campaign = $1 AND candidate <= 2",
    "a rank": "UPDATE sealed_tallies SET rank = 9 WHERE campaign = $1 AND candidate = 2",
    "a name": "UPDATE candidates SET name = '别人' WHERE campaign = $1 AND candidate = 2",
    "two codes": "UPDATE candidates SET code = 'x' || (6 - candidate) WHERE campaign = $1",
    "a photo": "UPDATE candidates SET photo = 'https://elsewhere.example/p.jpg' WHERE campaign = $1 AND candidate = 1",
    "the quota": "UPDATE campaigns SET rules = rules || '{\"likes_per_window\": 50}' WHERE number = $1",
    "the title": 'UPDATE campaigns SET rules = rules || \'{"title": "又一个"}\' WHERE number = $1',
    "a publisher": "UPDATE publishers SET name = '别家' WHERE campaign = $1 AND number = 1",
    "a new candidate": "INSERT INTO candidates SELECT campaign, 6, 'c99', name, kind, '', '', '', '', '' "
    "FROM candidates WHERE campaign = $1 AND candidate = 1",
    "the sum": "UPDATE seals SET likes = likes + 1 WHERE campaign = $1",
    "when": "UPDATE seals SET sealed_at = sealed_at + interval '1 ms' WHERE campaign = $1",
    "the digest": "UPDATE seals SET digest = repeat('0', 64) WHERE campaign = $1",
    "the timeline": "UPDATE hours SET likes = likes + 1 WHERE campaign = $1",
    "the hours": "UPDATE hours SET hour = hour - interval '5 hours' WHERE campaign = $1",
    "a like's candidate": "UPDATE likes SET candidate = 5 WHERE campaign = $1 AND candidate = 1 "
    "AND voter = (SELECT voter FROM likes WHERE campaign = $1 AND candidate = 1 ORDER BY voter LIMIT 1)",
    "a like's publisher": "UPDATE likes SET publisher = 77 WHERE campaign = $1 "
    "AND voter = (SELECT voter FROM likes WHERE campaign = $1 ORDER BY voter LIMIT 1)",
    "a like's class": "UPDATE likes SET voter_class = 9 WHERE campaign = $1 "
    "AND voter = (SELECT voter FROM likes WHERE campaign = $1 ORDER BY voter LIMIT 1)",
}


@pytest.mark.parametrize("change", AFTER)
async def test_what_is_changed_after_the_seal_is_said(way: Way, sql: Sql, change: str) -> None:
    await way.sealer.seal(way.campaign.id, drain_s_max=5)
    assert await differences(way) == []

    await sql.execute(AFTER[change].replace("$1", str(way.campaign.number)))

    assert await differences(way)
    assert await differences(way, ledger_only=True)
    with pytest.raises(CampaignError, match=r"DIFFERENT|is of another campaign"):
        await way.sealer.seal(way.campaign.id, drain_s_max=5)


async def test_likes_added_everywhere_after_the_seal_do_not_have_its_digest(valkey: Redis, way: Way, sql: Sql) -> None:
    await way.sealer.seal(way.campaign.id, drain_s_max=5)
    await tampering.add_rows(sql, way.campaign, 30, candidate=2)
    await tampering.add_counts(sql, way.campaign, 30, candidate=2)
    for table in ("sealed_tallies", "seals"):
        which = "AND candidate = 2" if table == "sealed_tallies" else ""
        await sql.execute(
            f"UPDATE {table} SET likes = likes + 30, people = people + 30 "  # noqa: S608
            f"WHERE campaign = {way.campaign.number} {which}"
        )
    await sql.execute(
        "UPDATE sealed_tallies SET rank = 1 + (candidate <> 2)::int WHERE campaign = $1", way.campaign.number
    )
    await valkey.hincrby(keys.counts(way.campaign.shards[0]), "2", 30)

    said = await differences(way)

    assert [line.partition(":")[0] for line in said] == ["tally", "sums", "digest"]


PUBLISHED = {
    "rules": "UPDATE campaigns SET rules = rules || '{\"likes_per_window\": 50}' WHERE number = $1",
    "candidates": "UPDATE candidates SET code = 'x' || (6 - candidate) WHERE campaign = $1",
    "publishers": "UPDATE publishers SET code = 'other' WHERE campaign = $1 AND number = 1",
    "revocations": "INSERT INTO revocations (campaign, number, reason, publisher) VALUES ($1, 1, '', 9)",
    "version": "UPDATE campaigns SET version = version + 1 WHERE number = $1",
}


@pytest.mark.parametrize("part", PUBLISHED)
async def test_what_is_changed_beside_what_is_published_is_said(way: Way, sql: Sql, part: str) -> None:
    stored = await way.lifecycle.stored(way.campaign.id)
    assert await against_published(way.store, way.ledger, stored) == []

    await sql.execute(PUBLISHED[part].replace("$1", str(way.campaign.number)))

    [line] = await against_published(way.store, way.ledger, await way.lifecycle.stored(way.campaign.id))
    assert line.startswith(f"{part}: ")


async def test_a_changed_timeline_alone_has_its_way_out(way: Way, sql: Sql) -> None:
    await sql.execute("UPDATE hours SET hour = hour - interval '5 hours' WHERE campaign = $1", way.campaign.number)

    with pytest.raises(CampaignError, match=r"(?s)an hour of the timeline.*--accept-ledger to count them again"):
        await way.sealer.seal(way.campaign.id, drain_s_max=5)
    await way.restorer.restore(way.campaign.id, drain_s_max=5, accept_ledger=True)

    _counted, seal = await way.sealer.seal(way.campaign.id, drain_s_max=5)
    assert seal.likes == 80


BEFORE = {
    "a quota": ("quota", r"1 voters with more than 3 likes in a window"),
    "an unknown candidate": ("candidate", r"3 likes of a candidate that there is not"),
    "an unknown publisher": ("publisher", r"3 likes by a publisher that there is not"),
    "a class": ("voter_class", r"3 likes of a voter class that is not allowed"),
}


@pytest.mark.parametrize("what", BEFORE)
async def test_likes_that_break_the_rules_keep_the_seal_shut(way: Way, sql: Sql, what: str) -> None:
    column, said = BEFORE[what]
    day = way.campaign.rules.window_dates()[0]
    for number in range(3):
        voter = bytes(16) if column == "quota" else number.to_bytes(16, "big")
        for candidate in [1, 2, 3, 4] if column == "quota" else [1]:
            if column != "quota" or number == 0:
                await sql.execute(tampering.ADD_ROW, day, way.campaign.number, candidate, voter)
    if column != "quota":
        await sql.execute(
            f"UPDATE likes SET {column} = 99 WHERE campaign = $1 AND voter < $2",  # noqa: S608
            way.campaign.number,
            (3).to_bytes(16, "big"),
        )
    await sql.execute("DELETE FROM counts WHERE campaign = $1", way.campaign.number)
    async with way.ledger.campaigns.step(way.campaign.id) as step:
        await step.recount(len(way.campaign.shards))

    assert any(re.search(said, line) for line in await differences(way))
    with pytest.raises(CampaignError, match=said):
        await way.sealer.seal(way.campaign.id, drain_s_max=5)
    assert await way.store.gates.taking_likes(way.campaign.shards), "it is not closed and then refused"


async def test_the_digest_is_of_the_canonical_document(way: Way) -> None:
    _counted, seal = await way.sealer.seal(way.campaign.id, drain_s_max=5)
    contents = await way.ledger.campaigns.contents(way.campaign)

    assert re.fullmatch("[0-9a-f]{64}", str(seal.digest))
    assert digests(way.campaign.id, contents, seal)[0] == seal.digest
    reordered = replace(contents, rules=dict(reversed(list(contents.rules.items()))))
    assert digests(way.campaign.id, reordered, seal)[0] == seal.digest, "the order of keys says nothing"
    assert digests("other", contents, seal)[0] != seal.digest


async def test_a_seal_of_before_digests_is_compared_by_its_numbers(way: Way, sql: Sql) -> None:
    await way.sealer.seal(way.campaign.id, drain_s_max=5)
    await sql.execute("UPDATE seals SET digest = NULL, parts = NULL WHERE campaign = $1", way.campaign.number)

    assert await differences(way) == []
    await sql.execute(AFTER["a rank"].replace("$1", str(way.campaign.number)))
    assert len(await differences(way)) == 1


async def test_the_ledger_alone_can_be_recounted_when_the_store_is_gone(
    valkey_url: str, database_url: str, way: Way
) -> None:
    await way.sealer.seal(way.campaign.id, drain_s_max=5)
    nowhere = {"DIANZAN_REDIS_URL": "redis://127.0.0.1:9/0", "DIANZAN_DATABASE_URL": database_url}
    words = ("recount", way.campaign.id)

    with_store = await asyncio.to_thread(command, *words, within=own_environment(nowhere))
    alone = await asyncio.to_thread(command, *words, "--ledger-only", within=own_environment(nowhere))

    assert with_store.returncode == 1
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.endswith("equal\n")
    assert "counters of the store" not in alone.stdout
    assert "digest of what was sealed: " in alone.stdout


async def test_the_ledger_alone_is_equal_while_the_store_has_more(way: Way) -> None:
    await way.cast(*ballots(40, 60))

    assert await differences(way), "what waits in the streams"
    assert await differences(way, ledger_only=True) == []
