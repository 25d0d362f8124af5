"""The load test itself, short: it passes the real system, and fails one whose ledger has lost a like."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NewCampaign
from tests.support.client import CampaignClient
from tests.support.database import number_of, sql

RUN_S_MAX = 170


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


def pointed_at(campaign: CampaignClient, journal: Path) -> list[str | Path]:
    """Options that load a campaign of a running system."""
    system = campaign.system
    addresses: list[str | Path] = ["--vote-url", system.vote_url, "--results-url", system.results_url]
    return [*addresses, "--campaign", campaign.id, "--data", system.data, "--journal", journal]


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
    status, printed = await load("--seconds", "5", "--seed", "1", "--journal", tmp_path / "journal.jsonl")
    assert status == 0, printed
    assert "no difference" in printed
    assert "seed 1" in printed
    assert "like requests : reads = 1 : " in printed


@pytest.mark.timeout(RUN_S_MAX + 10)
async def test_a_ledger_that_lost_a_like_fails(new_campaign: NewCampaign, tmp_path: Path) -> None:
    campaign = await new_campaign(roster=20)
    options = pointed_at(campaign, tmp_path / "journal.jsonl")
    status, printed = await load(*options, "--seconds", "3", "--users", "12", "--reads-per-like", "5")
    assert status == 0, printed

    await lose_a_like(campaign)

    status, printed = await load(*options, "--verdict-only", "--drain-seconds", "5")
    assert status == 1, printed
    assert "DIFFERENT" in printed
    assert "FAIL likes answered = ledger" in printed
    assert printed.count("is not in the ledger") == 1
