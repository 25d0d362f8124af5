"""The worker's daily look at what is sealed: a change is a metric and an error in the log, and holds up nothing."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from dianzan.domain.errors import LedgerAway
from dianzan.ledger.ledger import Ledger
from dianzan.process import background, metrics
from dianzan.store.like_link import LikeLink
from tally_worker import sealed_campaigns
from tally_worker.sealed_campaigns import SealedCampaigns
from tests.support.tampering import Sql
from tests.support.wait import until
from tests.support.way import Way, ballots, make_way


@pytest.fixture
async def way(valkey: Redis, ledger: Ledger, valkey_link: LikeLink) -> Way:
    """A sealed campaign."""
    made = await make_way(valkey, ledger, valkey_link, shards=2)
    await made.cast(*ballots(0, 40))
    await made.flush()
    await made.sealer.seal(made.campaign.id, drain_s_max=5)
    return made


async def later(sql: Sql, way: Way, interval: str) -> None:
    """As it is after so long."""
    back = "UPDATE seals SET compare_after = compare_after - $2::text::interval WHERE campaign = $1"
    await sql.execute(back, way.campaign.number, interval)


def differences(way: Way) -> float:
    found: float = metrics.SEAL_DIFFERENCES.labels(way.campaign.id)._value.get()
    return found


async def test_what_was_changed_is_told(way: Way, sql: Sql, capsys: pytest.CaptureFixture[str]) -> None:
    await SealedCampaigns(way.ledger).run_once()
    assert differences(way) == 0

    await sql.execute("UPDATE sealed_tallies SET rank = 9 WHERE campaign = $1 AND candidate = 1", way.campaign.number)
    await SealedCampaigns(way.ledger).run_once()
    assert differences(way) == 0, "compared today"
    await later(sql, way, "1 day")
    await SealedCampaigns(way.ledger).run_once()

    assert differences(way) == 3  # the rank, the tally, the digest
    assert "a sealed campaign is not what was sealed" in capsys.readouterr().out


async def test_another_worker_compares_nothing_again_and_tells_what_was_found(way: Way, sql: Sql) -> None:
    await sql.execute("UPDATE sealed_tallies SET rank = 9 WHERE campaign = $1 AND candidate = 1", way.campaign.number)
    await SealedCampaigns(way.ledger).run_once()
    metrics.SEAL_DIFFERENCES.labels(way.campaign.id).set(0)
    compared = await sql.fetchval("SELECT compare_after FROM seals WHERE campaign = $1", way.campaign.number)

    await SealedCampaigns(way.ledger).run_once()

    assert differences(way) == 3
    assert await sql.fetchval("SELECT compare_after FROM seals WHERE campaign = $1", way.campaign.number) == compared


async def test_what_was_mended_is_told_after_ten_minutes(way: Way, sql: Sql) -> None:
    ranks = "UPDATE sealed_tallies SET rank = {} WHERE campaign = $1 AND candidate = 1"
    of_first = "SELECT rank FROM sealed_tallies WHERE campaign = $1 AND candidate = 1"
    rank = await sql.fetchval(of_first, way.campaign.number)
    await sql.execute(ranks.format(9), way.campaign.number)
    await SealedCampaigns(way.ledger).run_once()
    await sql.execute(ranks.format(rank), way.campaign.number)
    await later(sql, way, "10 minutes")

    await SealedCampaigns(way.ledger).run_once()

    assert differences(way) == 0


async def test_a_comparison_that_came_to_no_end_is_made_again_in_an_hour(
    way: Way, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = SealedCampaigns(way.ledger)
    with monkeypatch.context() as broken:
        broken.setattr(sealed_campaigns, "recount", _away)
        with pytest.raises(LedgerAway):
            await looking.run_once()
    await sql.execute("UPDATE sealed_tallies SET rank = 9 WHERE campaign = $1 AND candidate = 1", way.campaign.number)
    await looking.run_once()
    assert differences(way) == 0, "another worker may be at it"
    await later(sql, way, "1 hour")

    await looking.run_once()

    assert differences(way) == 3


async def _away(*_asked: object) -> None:
    raise LedgerAway("it restarts")


async def test_a_postgres_that_is_away_puts_the_look_off(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_campaigns, "LOOK_EVERY_S", 0.01)
    looks = 0

    async def looked() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise LedgerAway("it restarts")

    looking = SealedCampaigns(way.ledger)
    monkeypatch.setattr(looking, "run_once", looked)
    task = background.spawn("sealed campaigns", looking.run())

    async def again() -> bool:
        return looks >= 2

    await until(again, what="the second look")
    await background.stop(task)
