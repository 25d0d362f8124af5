"""What is promised while a store is down or unfit: anything short of durable is said, and nothing counted is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from dianzan.cli.stores import Stores, open_stores
from dianzan.domain.shard import Shard
from dianzan.local.stores import EmbeddedStores, find_stores
from dianzan.store import keys
from dianzan.store.durability import DURABLE_SETTINGS
from dianzan.store.nodes import open_client
from tests.spec.test_errors import assert_problem
from tests.support.client import CampaignClient, VoterClient, candidates, publish, rules
from tests.support.database import until_in_ledger
from tests.support.guards import LogWatch
from tests.support.service import running
from tests.support.system import System
from tests.support.wait import until

NewCampaign = Callable[[], Awaitable[CampaignClient]]
WEAK = {
    "appendfsync": "everysec",
    "no-appendfsync-on-rewrite": "yes",
    "maxmemory-policy": "allkeys-lru",
    "appendonly": "no",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStores]:
    """Stores that the tests may kill: this file owns them, and `dianzan up` only uses them."""
    with EmbeddedStores(tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture(scope="module")
def outside(servers: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`dianzan up` on stores given by their two addresses; at the end no service has logged an error."""
    found = find_stores(servers.data)
    named = {"DIANZAN_REDIS_URL": found.redis_url, "DIANZAN_DATABASE_URL": found.database_url}
    system = System(tmp_path_factory.mktemp("outside") / "data", named)
    system.start()
    yield system
    assert system.stop() == 0, system.printed
    assert LogWatch(system.data / "logs").new_errors() == []


@pytest.fixture
async def own_stores(outside: System) -> AsyncIterator[Stores]:
    async with open_stores(outside.stores) as opened:
        yield opened


@pytest.fixture
async def campaign(outside: System, own_stores: Stores, http: httpx.AsyncClient) -> CampaignClient:
    """A campaign on this file's own system, which serves."""
    wanted = rules()
    await publish(own_stores, wanted, candidates(5))
    created = CampaignClient(wanted.id, http, outside, own_stores)
    await created.until_served()
    await until_ready(created, 200)
    return created


async def until_ready(campaign: CampaignClient, status: int, within_s: float = 5) -> httpx.Response:
    """Wait until the vote API's readiness is so."""

    async def so() -> httpx.Response | None:
        answer = await campaign.http.get(f"{campaign.system.vote_url}/readyz")
        return answer if answer.status_code == status else None

    found = await until(so, within_s=within_s, what=f"readiness {status}")
    assert found is not None
    return found


async def test_likes_are_counted_on_stores_given_by_their_addresses(campaign: CampaignClient) -> None:
    voter = await campaign.voter()

    assert await voter.statuses("c01") == ["counted"]

    await until_in_ledger(campaign, 1, within_s=2)
    assert not {"valkey", "postgres"} & {path.name for path in campaign.system.data.iterdir()}, "it started none itself"


async def test_while_the_store_is_down_every_like_is_told_to_ask_again(
    campaign: CampaignClient, servers: EmbeddedStores
) -> None:
    voter = await campaign.voter()
    receipt = (await voter.like("c01"))["results"][0]["receipt"]
    servers.valkey.kill()

    assert_problem(await voter.ask("c02"), 503, "store_unavailable")
    unready = await until_ready(campaign, 503)
    assert unready.headers["retry-after"]
    assert unready.json()["ready"] is False
    assert (await voter.ask("c02")).status_code == 503
    mine = await campaign.http.get(f"{voter.likes_url}/mine", headers={"authorization": f"Bearer {voter.token}"})
    assert_problem(mine, 503, "store_unavailable")
    assert_problem(await campaign.http.post(f"{campaign.vote_url}/voters", json={}), 503, "store_unavailable")
    assert (await campaign.get("/results")).status_code == 200, "readers need no store"

    servers.valkey.start()
    await until_ready(campaign, 200)
    again = await voter.like("c01", "c02")
    assert [result["status"] for result in again["results"]] == ["already_liked", "counted"]
    assert again["results"][0]["receipt"] == receipt
    await until_in_ledger(campaign, 2)


async def test_no_answered_like_is_lost_and_none_counts_twice_when_the_store_is_killed_under_load(
    campaign: CampaignClient, servers: EmbeddedStores
) -> None:
    voters = [await campaign.known_voter(f"voter {i}") for i in range(400)]
    first = [asyncio.create_task(voter.ask("c01", "c02")) for voter in voters]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)

    servers.valkey.kill()
    answers = await asyncio.gather(*first)
    servers.valkey.start()
    await until_ready(campaign, 200)

    assert {answer.status_code for answer in answers} == {200, 503}, "the store was not killed in the middle"
    again = await asyncio.gather(*(_until_answered(voter) for voter in voters))
    for answer, statuses in zip(answers, again, strict=True):
        assert answer.status_code == 503 or statuses == ["already_liked"] * 2, "an answered like was lost"
    await until_in_ledger(campaign, 800)
    assert "equal\n" in campaign.system.cli("recount", campaign.id).stdout


async def _until_answered(voter: VoterClient) -> list[str]:
    async def answered() -> httpx.Response | None:
        answer = await voter.ask("c01", "c02")
        return answer if answer.status_code == 200 else None

    found = await until(answered, what="the like is answered")
    assert found is not None
    return [result["status"] for result in found.json()["results"]]


async def test_postgres_down_stops_no_like_and_all_appear_when_it_is_back(
    campaign: CampaignClient, servers: EmbeddedStores
) -> None:
    before = await campaign.voter()
    await before.like("c01")
    await until_in_ledger(campaign, 1)
    servers.postgres.kill()

    voters = [await campaign.voter() for _ in range(20)]
    answers = await asyncio.gather(*(voter.statuses("c01", "c02") for voter in voters))
    ready = await campaign.http.get(f"{campaign.system.vote_url}/readyz")
    served = await campaign.get("/results")

    assert answers == [["counted", "counted"]] * 20
    assert (ready.status_code, ready.json()["promise"]) == (200, "kept")
    assert served.status_code == 200, "the last counts go on being served"
    servers.postgres.start()
    await until_in_ledger(campaign, 41)

    async def seen() -> bool:
        return await campaign.likes_of("c01") == 21

    await until(seen, what="the likes are in the results")


@asynccontextmanager
async def weak_store(campaign: CampaignClient) -> AsyncIterator[None]:
    """The store's settings keep no promise until the block ends."""
    client = open_client(campaign.system.stores.redis_url)
    try:
        for name, value in WEAK.items():
            await client.config_set(name, value)
        yield
    finally:
        for name, value in DURABLE_SETTINGS.items():
            await client.config_set(name, value)
        await client.aclose()


async def test_a_store_whose_settings_break_the_promise_is_refused(campaign: CampaignClient, tmp_path: Path) -> None:
    async with weak_store(campaign), running("vote_api", campaign.system.stores, tmp_path) as started:
        here = replace(campaign, system=replace(campaign.system, vote_port=started.port))
        voter = here.with_token((await campaign.voter()).token)

        problem = assert_problem(await voter.ask("c01"), 503, "store_unsafe")
        readiness = (await until_ready(here, 503)).json()

        assert problem["detail"]
        assert readiness["promise"] == "broken"
        assert not [name for name in WEAK if not any(name in reason for reason in readiness["reasons"])]
        assert (await voter.mine())["likes"] == [], "nothing was counted"


async def test_a_store_that_is_weakened_while_it_runs_is_refused_until_it_is_mended(campaign: CampaignClient) -> None:
    voter = await campaign.voter()
    async with weak_store(campaign):
        await until_ready(campaign, 503, within_s=12)
        assert_problem(await voter.ask("c01"), 503, "store_unsafe")

    await until_ready(campaign, 200)
    assert await voter.statuses("c01") == ["counted"]


async def test_a_waived_promise_is_said_on_every_answer(campaign: CampaignClient, tmp_path: Path) -> None:
    settings = {"DIANZAN_ALLOW_WEAK_STORE": "true"}
    async with weak_store(campaign), running("vote_api", campaign.system.stores, tmp_path, **settings) as started:
        here = replace(campaign, system=replace(campaign.system, vote_port=started.port))
        voter = here.with_token((await campaign.voter()).token)

        readiness = await until_ready(here, 200)
        answers = [
            await voter.ask("c01"),
            await voter.ask(),
            readiness,
            await here.http.post(f"{here.vote_url}/voters", json={}),
            await here.http.get(f"{started.url}/nothing"),
        ]
        metrics = (await here.http.get(f"{started.url}/metrics")).text

    assert [answer.status_code for answer in answers] == [200, 400, 200, 200, 404]
    assert [answer.headers.get("dianzan-promise") for answer in answers] == ["waived"] * 5
    assert readiness.json()["promise"] == "waived"
    assert "\ndianzan_store_safe 0.0\n" in metrics


async def test_a_promise_that_is_kept_is_not_called_waived(campaign: CampaignClient) -> None:
    answer = await (await campaign.voter()).ask("c01")

    assert "dianzan-promise" not in answer.headers


async def test_a_store_that_has_lost_a_campaign_refuses_instead_of_counting_again_from_zero(
    campaign: CampaignClient,
) -> None:
    voter = await campaign.voter()
    await voter.like("c01")
    await until_in_ledger(campaign, 1)
    client = open_client(campaign.system.stores.redis_url)
    for shard in range(4):
        lost = [key async for key in client.scan_iter(match=f"{keys.tag(Shard(campaign.id, shard))}:*")]
        await client.delete(*lost)
    await client.aclose()

    assert_problem(await voter.ask("c01"), 503, "store_unsafe")
    refused = campaign.system.cli("campaign", "publish", campaign.id, check=False)
    assert refused.returncode == 1
    assert "The store has lost 4 of 4 shards" in refused.stderr
    assert_problem(await voter.ask("c01"), 503, "store_unsafe")
