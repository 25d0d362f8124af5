"""What is promised after a loss of the store: refused until restored; restored, it knows every like of the ledger."""

from __future__ import annotations

import pytest

from dianzan import keys
from dianzan.vote_store import connect
from tests.conftest import NewCampaign
from tests.spec.test_errors import assert_problem
from tests.support.client import CampaignClient
from tests.support.database import until_in_ledger
from tests.support.wait import until


async def lose(campaign: CampaignClient, *shards: int) -> None:
    """Remove all that the store holds of these shards, as a disk that came back empty would."""
    client = connect(campaign.system.stores.redis_url)
    try:
        for shard in shards:
            pattern = keys.tag(campaign.id, shard) + ":*"
            found = [key async for key in client.scan_iter(match=pattern, count=1_000)]
            assert found
            await client.delete(*found)
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
    assert "Sealed" in campaign.system.cli("seal", campaign.id).stdout


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
