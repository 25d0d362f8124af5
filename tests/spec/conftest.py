"""Fixtures of the specification: one campaign for every test that only brings voters of its own."""

from __future__ import annotations

import httpx
import pytest

from dianzan.cli.stores import Stores
from tests.support.client import CampaignClient, candidates, publish, rules
from tests.support.system import System


@pytest.fixture(scope="session")
async def open_campaign(system: System, stores: Stores, http: httpx.AsyncClient) -> CampaignClient:
    """A published campaign of five candidates, three likes a day; its counts are nobody's own."""
    wanted = rules()
    await publish(stores, wanted, candidates(5))
    client = CampaignClient(wanted.id, http, system, stores)
    await client.until_served()
    return client
