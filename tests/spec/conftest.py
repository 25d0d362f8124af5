"""Fixtures of the specification: one campaign for every test that only brings voters of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.conftest import NewCampaign
from tests.support.client import CampaignClient
from tests.support.wait import until

ReadAgain = Callable[[], Awaitable[None]]


@pytest.fixture(scope="session")
async def open_campaign(lasting_campaign: NewCampaign) -> CampaignClient:
    """A published campaign of five candidates, three likes a day; its counts are nobody's own."""
    return await lasting_campaign()


@pytest.fixture
def read_again(open_campaign: CampaignClient) -> ReadAgain:
    """Wait until the results API has read Postgres once more: it then shows a like cast just now elsewhere."""

    async def wait() -> None:
        before = (await open_campaign.results())["likes"]
        await (await open_campaign.voter()).like("c05")

        async def shown() -> bool:
            return bool((await open_campaign.results())["likes"] > before)

        await until(shown, what="the counts are read again")

    return wait
