"""Fixtures of the browser tests: one Chromium for the run, a window of its own for each visit, and another's site."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, async_playwright

from tests.browser.media_site import MediaSite, serve
from tests.browser.visit import Visit
from tests.support.system import System

NewVisit = Callable[..., Awaitable[Visit]]

CHROMIUM = shutil.which("chromium")
# Chromium's own traffic is switched off, so that every request seen is the page's.
ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 390, "height": 844}
WAIT_MS_MAX = 10_000


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The system's Chromium; without one the browser tests are skipped."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH: install the system's package to run the browser tests")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        await browser.close()


@pytest.fixture
async def new_visit(chromium: Browser, system: System) -> AsyncIterator[NewVisit]:
    """Open a window of a new person, on a phone unless asked otherwise; a script that crashes there fails the test."""
    visits: list[Visit] = []

    async def start(**options: Any) -> Visit:
        context = await chromium.new_context(**{"viewport": PHONE, "locale": "zh-CN", **options})
        context.set_default_timeout(WAIT_MS_MAX)
        visits.append(Visit(await context.new_page()))
        return visits[-1]

    yield start
    for visit in visits:
        await visit.page.context.close()
    assert [crash for visit in visits for crash in visit.crashes] == []


@pytest.fixture
async def visit(new_visit: NewVisit) -> Visit:
    """One person with a phone."""
    return await new_visit()


@pytest.fixture(scope="session")
def media_site(system: System) -> Iterator[MediaSite]:
    """Somebody else's site that embeds the button."""
    with serve(system.results_url) as site:
        yield site
