"""What is promised after a loss of the store: refused until restored; restored, it knows every like of the ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dianzan.domain.campaign import State
from dianzan.domain.shard import Shard
from dianzan.life.restore import Restorer
from dianzan.store import keys
from dianzan.store.nodes import open_client
from tests.conftest import NewCampaign
from tests.spec.test_errors import assert_problem
from tests.spec.test_seal import no_worker
from tests.support.client import CampaignClient
from tests.support.database import number_of, sql, until_in_ledger
from tests.support.service import running
from tests.support.system import END
from tests.support.wait import until

LOSE_ALL = [
    "DELETE FROM likes WHERE campaign = $1",
    "DELETE FROM counts WHERE campaign = $1",
    "DELETE FROM hours WHERE campaign = $1",
]


async def lose(campaign: CampaignClient, *shards: int) -> None:
    """Remove all that the store holds of these shards, as a disk that came back empty would."""
    client = open_client(campaign.system.stores.redis_url)
    try:
        for shard in shards:
            pattern = keys.tag(Shard(campaign.id, shard)) + ":*"
            found = [key async for key in client.scan_iter(match=pattern, count=1_000)]
            assert found
            await client.delete(*found)
    finally:
        await client.aclose()


async def gates(campaign: CampaignClient) -> list[bytes | str | None]:
    """What stands in each shard's gate."""
    client = open_client(campaign.system.stores.redis_url)
    try:
        shards = (await campaign.stores.lifecycle.stored(campaign.id)).rules.shards
        return [await client.get(keys.gate(Shard(campaign.id, shard))) for shard in range(shards)]
    finally:
        await client.aclose()


async def voted(campaign: CampaignClient, voters: int = 12) -> list[tuple[str, dict[str, str]]]:
    """Tokens of voters who like c01 and one more, and the receipts they got; all in the ledger."""
    found = []
    for n in range(voters):
        voter = await campaign.voter()
        answer = await voter.like("c01", f"c{2 + n % 4:02}")
        found.append((voter.token, {each["candidate"]: each["receipt"] for each in answer["results"]}))
    await until_in_ledger(campaign, 2 * voters)
    return found


@pytest.mark.parametrize("lost", [(0, 1, 2, 3), (2,)], ids=["the whole store", "one shard"])
async def test_a_restored_store_knows_every_like_quota_and_receipt(
    new_campaign: NewCampaign, lost: tuple[int, ...]
) -> None:
    campaign = await new_campaign()
    before = await voted(campaign)
    await lose(campaign, *lost)

    said = campaign.system.cli("restore", campaign.id).stdout

    assert said.startswith(f"Restored {len(lost)} shards of {campaign.id} with ")
    for token, receipts in before:
        voter = campaign.with_token(token)
        mine = await voter.mine()
        assert {each["candidate"]: each["receipt"] for each in mine["likes"]} == receipts
        assert mine["remaining"] == 1
        again = await voter.like(*receipts)
        assert [(r["status"], r["receipt"]) for r in again["results"]] == [
            ("already_liked", receipt) for receipt in receipts.values()
        ]
    assert await (await campaign.voter()).statuses("c05") == ["counted"]
    await until_in_ledger(campaign, 25)
    assert "equal" in campaign.system.cli("recount", campaign.id).stdout


async def test_a_lost_shard_refuses_until_it_is_restored(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(shards=1)
    ((token, _receipts),) = await voted(campaign, 1)
    await lose(campaign, 0)

    assert_problem(await campaign.with_token(token).ask("c01"), 503, "store_unsafe")
    campaign.system.cli("restore", campaign.id)
    assert await campaign.with_token(token).statuses("c01") == ["already_liked"]


async def test_restoring_again_changes_nothing(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign()
    await voted(campaign)
    await lose(campaign, 1)
    campaign.system.cli("restore", campaign.id)

    again = campaign.system.cli("restore", campaign.id).stdout

    assert again == f"The store has lost nothing of {campaign.id}.\n"
    assert "equal" in campaign.system.cli("recount", campaign.id).stdout


async def test_a_closed_campaign_is_restored_closed_and_can_be_sealed(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign()
    ((token, _receipts), *_others) = await voted(campaign)
    await campaign.stores.lifecycle.close(campaign.id)
    await lose(campaign, 0, 1, 2, 3)

    campaign.system.cli("restore", campaign.id)

    assert_problem(await campaign.with_token(token).ask("c05"), 409, "closed")
    assert "Sealed" in campaign.system.cli("seal", campaign.id, *END).stdout


async def test_a_campaign_is_not_closed_on_a_lost_store_and_restored_it_is(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign()
    await voted(campaign)
    await lose(campaign, 1, 2)

    for command in (("campaign", "close"), ("seal",)):
        refused = campaign.system.cli(*command, campaign.id, *END, check=False)
        assert refused.returncode == 1
        assert f"run dianzan restore {campaign.id}" in refused.stderr
    assert (await campaign.stores.lifecycle.stored(campaign.id)).state is State.published
    campaign.system.cli("restore", campaign.id)

    assert "Sealed" in campaign.system.cli("seal", campaign.id, *END).stdout


async def test_shards_that_were_closed_empty_are_rebuilt(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(shards=1)
    await voted(campaign)
    await campaign.stores.lifecycle.close(campaign.id)
    await lose(campaign, 0)
    await campaign.stores.store.gates.close([Shard(campaign.id, 0)])

    assert f"run dianzan restore {campaign.id}" in campaign.system.cli("seal", campaign.id, *END, check=False).stderr
    said = campaign.system.cli("restore", campaign.id).stdout

    assert said.startswith(f"Restored 1 shards of {campaign.id} with 24 likes")
    assert "Sealed" in campaign.system.cli("seal", campaign.id, *END).stdout


async def test_a_publication_on_a_lost_shard_changes_no_gate(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign()
    await voted(campaign)
    await lose(campaign, 2)
    before = await gates(campaign)

    said = campaign.system.cli("campaign", "publish", campaign.id, check=False).stderr

    assert f"run dianzan restore {campaign.id}" in said
    assert await gates(campaign) == before
    campaign.system.cli("restore", campaign.id)
    assert len({gate for gate in await gates(campaign) if gate}) == 1, "one version of the rules everywhere"


async def test_one_lost_shard_is_restored_while_likes_wait_in_the_others(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign()
    await voted(campaign)
    await lose(campaign, 2)
    with no_worker(campaign.system):
        taken = [(await (await campaign.voter()).ask("c05")).status_code for _ in range(12)]
        assert taken.count(200) > 0

        said = campaign.system.cli("restore", campaign.id, "--drain", "1").stdout

    assert said.startswith("Restored 1 shards")
    await until_in_ledger(campaign, 24 + taken.count(200))
    assert "equal" in campaign.system.cli("recount", campaign.id).stdout


async def test_a_restore_waits_for_another_command_on_the_campaign(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign()
    await voted(campaign)
    await lose(campaign, 0)
    stores = campaign.stores
    restorer = Restorer(stores.store, stores.ledger)

    async def waits() -> bool:
        rows = await sql(campaign, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(rows) or restoring.done()

    async with stores.ledger.campaigns.step(campaign.id):
        restoring = asyncio.create_task(restorer.restore(campaign.id, drain_s_max=10))
        await until(waits)
        assert not restoring.done()
        assert (await gates(campaign))[0] is None

    assert (await restoring).shards == [Shard(campaign.id, 0)]


async def test_two_restores_at_once_rebuild_once(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign()
    await voted(campaign)
    await lose(campaign, 0, 1)
    stores = campaign.stores
    both = [Restorer(stores.store, stores.ledger) for _ in range(2)]

    found = await asyncio.gather(*(each.restore(campaign.id, drain_s_max=10) for each in both))

    assert sorted(each.shards for each in found) == [[], [Shard(campaign.id, 0), Shard(campaign.id, 1)]]
    assert "equal" in campaign.system.cli("recount", campaign.id).stdout


async def test_a_count_that_the_ledgers_rows_do_not_bear_out_is_not_restored(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(shards=1)
    await voted(campaign, 2)
    await lose(campaign, 0)
    await sql(campaign, "UPDATE counts SET likes = likes + 1 WHERE campaign = $1", await number_of(campaign))

    assert "Not opened: shard 0 counts" in campaign.system.cli("restore", campaign.id, check=False).stderr
    assert await gates(campaign) == [None]


async def test_what_the_ledger_has_lost_comes_back_where_the_store_keeps_it(
    new_campaign: NewCampaign, tmp_path: Path
) -> None:
    campaign = await new_campaign()
    stores, keeping = campaign.system.stores, {"DIANZAN_KEEP_COMMITTED_S": "600"}
    with no_worker(campaign.system):
        async with running("tally_worker", stores, tmp_path, **keeping):
            await voted(campaign)
        for lose_from in LOSE_ALL:
            await sql(campaign, lose_from, await number_of(campaign))
        assert campaign.system.cli("recount", campaign.id, check=False).returncode == 1

        async with running("tally_worker", stores, tmp_path, **keeping):
            await until_in_ledger(campaign, 24)
            assert "equal" in campaign.system.cli("recount", campaign.id).stdout


async def test_more_than_255_candidates_and_a_campaign_long_window_are_restored(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(roster=300, window="campaign", shards=2)
    voter = await campaign.voter()
    await voter.like("c299", "c300")
    await until_in_ledger(campaign, 2)
    await lose(campaign, *range(2))

    campaign.system.cli("restore", campaign.id)

    assert [like["candidate"] for like in (await voter.mine())["likes"]] == ["c299", "c300"]

    async def equal() -> bool:
        return campaign.system.cli("recount", campaign.id, check=False).returncode == 0

    await until(equal)
