"""Fixtures of all tests: one real system for the whole run, campaigns of their own for each test, and the guards."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dianzan.cli.stores import Stores, open_stores
from tests.support.client import CampaignClient, candidates, publish, rules
from tests.support.database import forget
from tests.support.guards import ErrorRecords, LogWatch, leaked_keys
from tests.support.system import System

NewCampaign = Callable[..., Awaitable[CampaignClient]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="what cannot run here is a failure, as always in CI")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "logs_errors: the test provokes errors that are meant to be logged")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a failure of a skipped test where the machine is to have all that tests need."""
    report = yield
    if report.skipped and item.config.getoption("no_skips"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`dianzan up`, shared by all tests; each test makes campaigns of its own."""
    running = System(tmp_path_factory.mktemp("dianzan") / "data")
    running.start()
    yield running
    assert running.stop() == 0, running.printed


@pytest.fixture(scope="session")
async def stores(system: System) -> AsyncIterator[Stores]:
    """Ledger, store and lifecycle of the shared system."""
    async with open_stores(system.stores) as opened:
        yield opened


@pytest.fixture(scope="session")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """One HTTP client for all tests; it closes idle connections before the services do, after 5 s."""
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=200, keepalive_expiry=3)) as client:
        yield client


@pytest.fixture(scope="session")
def lasting_campaign(system: System, stores: Stores, http: httpx.AsyncClient) -> NewCampaign:
    """Publish a campaign that several tests share: `await lasting_campaign(roster=5, likes_per_window=2, …)`."""

    async def create(*, roster: int = 5, **changes: Any) -> CampaignClient:
        wanted = rules(**changes)
        await publish(stores, wanted, candidates(roster))
        client = CampaignClient(wanted.id, http, system, stores)
        await client.until_served()
        return client

    return create


@pytest.fixture
async def new_campaign(lasting_campaign: NewCampaign) -> AsyncIterator[NewCampaign]:
    """Publish a campaign of the test's own, in the same way."""
    made: list[CampaignClient] = []

    async def create(**wanted: Any) -> CampaignClient:
        made.append(await lasting_campaign(**wanted))
        return made[-1]

    yield create
    if made:
        await forget(made)


@pytest.fixture
async def campaign(new_campaign: NewCampaign) -> CampaignClient:
    """A published, open campaign of five candidates, three likes a day."""
    return await new_campaign()


@pytest.fixture(autouse=True)
def no_swallowed_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that made a process log an error without saying so by the `logs_errors` marker."""
    own = ErrorRecords()
    logging.getLogger().addHandler(own)
    watch = _log_watch(request)
    yield
    logging.getLogger().removeHandler(own)
    found = own.records + (watch.new_errors() if watch else [])
    if found and request.node.get_closest_marker("logs_errors") is None:
        pytest.fail("errors were logged and swallowed:\n" + "\n".join(found[:20]))


_watches: dict[Path, LogWatch] = {}


def _log_watch(request: pytest.FixtureRequest) -> LogWatch | None:
    if "system" not in request.fixturenames:
        return None
    shared: System = request.getfixturevalue("system")
    watch = _watches.setdefault(shared.data, LogWatch(shared.data / "logs"))
    watch.new_errors()
    return watch


@pytest.fixture(autouse=True)
def no_leaked_keys(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that left a key in the store that has no place in keys.py."""
    yield
    if "system" in request.fixturenames:
        shared: System = request.getfixturevalue("system")
        leaked = leaked_keys(shared.stores.redis_url)
        if leaked:
            pytest.fail(f"keys without a place in keys.py: {leaked[:10]}")
