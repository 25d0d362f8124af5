"""Postgres brought back as an older copy: it is led past the store's version, and no like gets another's candidate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeAlias

import asyncpg
import pytest
from redis.asyncio import Redis

from dianzan.domain.campaign import Publisher
from dianzan.domain.errors import CampaignError
from dianzan.domain.voters import Revocation, VoterClass
from dianzan.ledger.ledger import Ledger
from dianzan.store.like_link import LikeLink
from tests.support.casting import voter
from tests.support.client import candidates
from tests.support.way import Way, make_way

Sql: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def way(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Way:
    """A campaign that was changed twice since the copy was taken."""
    made = await make_way(valkey, ledger, valkey_link, shards=1, publishers=())
    rules = made.document.rules
    await made.lifecycle.create(rules.model_copy(update={"publishers": sites("paper", "radio")}))
    await made.lifecycle.import_candidates(rules.id, candidates(7))
    document = await made.store.documents.read(rules.id)
    assert document is not None
    return replace(made, document=document)


async def forget(sql: Sql, way: Way, *, after: int = 7, **columns: Any) -> None:
    """What an older copy has: an earlier version, columns of that time, and no candidate after a number."""
    await sql.execute("UPDATE campaigns SET version = 3 WHERE id = $1", way.campaign.id)
    for name, value in columns.items():
        await sql.execute(f"UPDATE campaigns SET {name} = $2 WHERE id = $1", way.campaign.id, value)  # noqa: S608
    await sql.execute("DELETE FROM candidates WHERE campaign = $1 AND candidate > $2", way.campaign.number, after)


def sites(*codes: str) -> tuple[Publisher, ...]:
    """Publishers of these codes."""
    return tuple(Publisher(code=code) for code in codes)


async def codes(way: Way) -> list[str]:
    """Codes of the candidates that the vote API offers, in the order of their indexes."""
    document = await way.store.documents.read(way.campaign.id)
    assert document is not None
    return list(document.candidates)


async def test_a_publication_passes_the_version_that_the_store_has(way: Way, sql: Sql) -> None:
    before = (await way.store.documents.versions())[way.campaign.id]
    await forget(sql, way)

    assert (await way.lifecycle.publish(way.campaign.id)).version > before
    assert (await way.store.documents.versions())[way.campaign.id] > before


async def test_tokens_that_were_revoked_stay_revoked(way: Way, sql: Sql) -> None:
    wanted = Revocation(0, VoterClass.device, 2, 1_800_000_000, 1_800_003_600)
    number = await way.lifecycle.revoke(way.campaign.id, wanted, "sold")
    await forget(sql, way)
    await sql.execute("DELETE FROM revocations")

    document = await way.lifecycle.publish(way.campaign.id)

    assert document.revocations == (replace(wanted, number=number),)
    assert await way.lifecycle.revoke(way.campaign.id, Revocation(0, VoterClass.verified), "later") == number + 1
    [kept, _] = await way.ledger.campaigns.revocations(way.campaign)
    assert kept.reason == "made before Postgres came back as an older copy"


async def test_it_can_be_sealed(way: Way, sql: Sql) -> None:
    await way.cast((voter("a"), [1, 7]))
    await forget(sql, way)
    await way.flush()

    counted, seal = await way.sealer.seal(way.campaign.id, drain_s_max=5)

    assert counted.equal
    assert seal.likes == 2
    document = await way.store.documents.read(way.campaign.id)
    assert document is not None
    assert document.state == "sealed"


@pytest.mark.parametrize("step", ["publish", "close"])
async def test_a_candidate_that_it_lacks_is_named_before_anything_is_done(way: Way, sql: Sql, step: str) -> None:
    await forget(sql, way, after=5)
    do: Callable[[str], Awaitable[Any]] = getattr(way.lifecycle, step)

    with pytest.raises(
        CampaignError, match=r"lacks candidates that voters know: c06, c07\. Run dianzan campaign import"
    ):
        await do(way.campaign.id)

    assert await way.store.gates.taking_likes(way.campaign.shards) == list(way.campaign.shards)
    assert await codes(way) == [f"c0{n}" for n in range(1, 8)]


async def test_candidates_that_it_lacks_get_the_places_they_had(way: Way, sql: Sql) -> None:
    await forget(sql, way, after=5)
    new = candidates(8)

    await way.lifecycle.import_candidates(way.campaign.id, [new[7], new[6], new[5]])

    assert await codes(way) == [f"c0{n}" for n in range(1, 9)]


async def test_a_roster_without_a_candidate_that_it_lacks_is_refused_whole(way: Way, sql: Sql) -> None:
    await forget(sql, way, after=5)
    new = candidates(8)

    with pytest.raises(CampaignError, match=r"c06, c07\. The roster must have them all, but has no c06\."):
        await way.lifecycle.import_candidates(way.campaign.id, [new[7], new[6]])

    assert len(await way.ledger.campaigns.candidates(way.campaign)) == 5


async def test_a_publisher_that_it_lacks_keeps_its_number(way: Way, sql: Sql) -> None:
    older = way.document.rules.model_copy(update={"publishers": ()})
    await forget(sql, way, rules=older.model_dump_json())
    await sql.execute("DELETE FROM publishers WHERE campaign = $1", way.campaign.number)

    with pytest.raises(CampaignError, match=r"lacks publishers that likes have come by: paper, radio\."):
        await way.lifecycle.publish(way.campaign.id)
    with pytest.raises(CampaignError, match="publishers: likes may have come by paper; none is taken off"):
        await way.lifecycle.create(older.model_copy(update={"publishers": sites("radio")}))
    await way.lifecycle.create(older.model_copy(update={"publishers": sites("tv", "radio", "paper")}))

    document = await way.store.documents.read(way.campaign.id)
    assert document is not None
    assert document.publisher_number == {"paper": 1, "radio": 2, "tv": 3}


async def test_another_order_of_candidates_is_never_published(way: Way, sql: Sql) -> None:
    await sql.execute("UPDATE candidates SET code = 'x' WHERE candidate = 7 AND campaign = $1", way.campaign.number)

    with pytest.raises(CampaignError, match="Number 7 is c07 in the store and x in Postgres"):
        await way.lifecycle.publish(way.campaign.id)


async def test_a_campaign_made_anew_does_not_take_the_place_of_the_one_that_is_voted_for(way: Way, sql: Sql) -> None:
    await sql.execute("UPDATE campaigns SET secret = $2 WHERE id = $1", way.campaign.id, bytes(32))

    rules = way.document.rules
    for step in (
        way.lifecycle.create(rules),
        way.lifecycle.import_candidates(rules.id, candidates(7)),
        way.lifecycle.publish(rules.id),
    ):
        with pytest.raises(CampaignError, match="another key than Postgres"):
            await step

    document = await way.store.documents.read(way.campaign.id)
    assert document is not None
    assert document.secret == way.document.secret
