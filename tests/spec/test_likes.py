"""What is promised to the public: a like counts, once, visibly, and nothing else is ever said of it."""

from __future__ import annotations

import asyncio

from tests.conftest import NewCampaign
from tests.support.client import CampaignClient
from tests.support.wait import until


async def test_a_like_is_counted_and_seen_in_the_results_within_two_seconds(campaign: CampaignClient) -> None:
    voter = await campaign.voter()

    answer = await voter.like("c01")

    assert answer["results"][0]["status"] == "counted"
    assert answer["remaining"] == 2

    async def seen() -> bool:
        return await campaign.likes_of("c01") == 1

    await until(seen, within_s=2)


async def test_the_same_like_again_changes_nothing_and_has_the_same_receipt(campaign: CampaignClient) -> None:
    voter = await campaign.voter()
    first = (await voter.like("c01"))["results"][0]

    again = (await voter.like("c01"))["results"][0]

    assert again == {"candidate": "c01", "status": "already_liked", "receipt": first["receipt"]}


async def test_a_thousand_parallel_likes_of_one_voter_count_once(campaign: CampaignClient) -> None:
    voter = await campaign.voter()

    answers = await asyncio.gather(*(voter.statuses("c01") for _ in range(1_000)))

    assert sorted(answers) == [["already_liked"]] * 999 + [["counted"]]


async def test_a_voter_has_so_many_likes_a_window_and_no_more(new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(likes_per_window=2)
    voter = await campaign.voter()

    assert await voter.statuses("c01", "c02") == ["counted", "counted"]
    assert await voter.statuses("c03") == ["over_quota"]
    assert await voter.statuses("c01") == ["already_liked"]
