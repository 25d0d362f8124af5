"""The load test itself, short: it passes the real system, and sees that a ledger has lost a like."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from loadtests.load.gathering import gather
from loadtests.load.journal import Journal, Story, read
from loadtests.load.system import baseline, target_of
from loadtests.load.verdict import judge

from tests.support.client import CampaignClient
from tests.support.database import number_of, sql

RUN_S_MAX = 170
RECOUNT = "candidates on which the recount differs"


async def load(*options: str | Path) -> tuple[int, str]:
    """Exit code and output of `python -m loadtests.load`."""
    command = [sys.executable, "-m", "loadtests.load", *map(str, options)]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    return done.returncode, done.stdout


async def lose_a_like(campaign: CampaignClient) -> None:
    """Delete one row of the campaign's ledger."""
    query = """
        DELETE FROM likes WHERE (campaign, window_day, candidate, voter) IN
            (SELECT campaign, window_day, candidate, voter FROM likes WHERE campaign = $1 LIMIT 1)
        RETURNING candidate
    """
    assert len(await sql(campaign, query, await number_of(campaign))) == 1


async def test_the_stores_of_a_running_system_can_be_handed_to_another_process(campaign: CampaignClient) -> None:
    stores = campaign.system.stores
    printed = campaign.system.cli("env").stdout
    assert printed == f"DIANZAN_REDIS_URL={stores.redis_url}\nDIANZAN_DATABASE_URL={stores.database_url}\n"


@pytest.mark.timeout(RUN_S_MAX + 10)
async def test_a_system_of_its_own_passes(tmp_path: Path) -> None:
    status, printed = await load(
        "--seconds", "3", "--reads-per-like", "20", "--seed", "1", "--journal", tmp_path / "journal.jsonl"
    )
    assert status == 0, printed
    assert "no difference" in printed
    assert "seed 1" in printed
    assert "like requests : reads = 1 : " in printed


async def voted(campaign: CampaignClient, path: Path) -> Story:
    """The story of three voters who like two candidates each, told by a journal as the load writes it."""
    system = campaign.system
    target = target_of(system.vote_url, system.results_url, campaign.id, str(system.data))
    with Journal(path) as journal:
        journal.head(target, await asyncio.to_thread(baseline, target))
        for number in range(3):
            voter = await campaign.voter()
            journal.asked(number, voter.token, ["c01", "c02"])
            journal.answered(number, await voter.like("c01", "c02"))
    return read(path)


async def test_a_like_that_the_ledger_has_lost_is_found(campaign: CampaignClient, tmp_path: Path) -> None:
    story = await voted(campaign, tmp_path / "journal.jsonl")
    before = judge(await asyncio.to_thread(gather, story, 10))

    await lose_a_like(campaign)

    after = judge(await asyncio.to_thread(gather, story, 10))
    assert before.holds, list(before.differences())
    lost = {check.name: (check.expected, check.found, details) for check, details in after.differences()}
    record = "likes answered = public record of the ledger"
    assert lost.keys() == {record, *(f"likes answered = {name}" for name in ("ledger", "identities")), RECOUNT}
    assert (lost[record][:2], lost["likes answered = ledger"][:2]) == ((6, 5), (6, 5))
    assert [line.endswith(": expected 1, found 0") for line in lost[record][2]] == [True]
