"""The button when answers are late or lost, in several tabs, and on pages that put it there in their own way."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from playwright.async_api import Request, Route, expect

from dianzan.cli.stores import Stores
from tests.browser.conftest import NewVisit
from tests.browser.visit import LIKES, VOTERS, Visit, refuse
from tests.support.client import CampaignClient
from tests.support.wait import until

TRIES = 5  # of one request, then the voter is told


async def lose(route: Route) -> None:
    """The request arrives; its answer does not come back."""
    await route.fetch()
    await route.abort("connectionreset")


async def another_tab(visit: Visit, campaign: CampaignClient) -> Visit:
    """The same person opens the page once more."""
    second = Visit(await visit.page.context.new_page())
    await second.open(campaign)
    return second


async def published(campaign: CampaignClient, code: str) -> int:
    """Likes of a candidate once the results have them."""

    async def likes() -> int | None:
        return await campaign.likes_of(code)

    await until(likes, what=f"a like of {code} is published")
    return await likes() or 0


# ---- one person in several tabs -------------------------------------------------------------------------------------


async def test_first_taps_in_two_tabs_at_once_are_one_voter(visit: Visit, campaign: CampaignClient) -> None:
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def hold(route: Route) -> None:
        asked.set()
        await go_on.wait()
        await route.continue_()

    await visit.page.context.route(f"**{VOTERS}", hold)
    await visit.open(campaign)
    second = await another_tab(visit, campaign)

    await visit.candidate("c01").tap()
    await asked.wait()
    await second.candidate("c01").tap()
    await second.candidate("c01").expect_state("pending")
    go_on.set()

    await visit.candidate("c01").expect_state("liked")
    await second.candidate("c01").expect_state("liked")
    assert visit.posts(VOTERS) + second.posts(VOTERS) == 1
    assert await published(campaign, "c01") == 1
    assert (await campaign.results())["people"] == 1


async def test_a_tab_knows_what_another_one_liked(visit: Visit, campaign: CampaignClient) -> None:
    await visit.open(campaign)
    second = await another_tab(visit, campaign)

    await visit.candidate("c02").like()

    await second.candidate("c02").expect_state("liked")
    await expect(second.page.locator("#remaining dd")).to_have_text("2")


# ---- answers that are late or lost ----------------------------------------------------------------------------------


async def _without_answers(visit: Visit) -> None:
    """Tap c01 and let every answer be lost."""
    await visit.candidate("c01").tap()
    for tries in range(1, TRIES + 1):
        await visit.posted(LIKES, tries)
        await visit.page.clock.run_for(25_000)


async def test_a_like_whose_every_answer_was_lost_is_found_again(visit: Visit, campaign: CampaignClient) -> None:
    await visit.page.clock.install()
    await visit.open(campaign)
    await visit.page.route(f"**{LIKES}", lose)
    await visit.page.route("**/likes/mine", refuse)

    await _without_answers(visit)
    await expect(visit.candidate("c01").said).to_have_text("没有收到答复，点赞可能已经记上，正在核对…")
    await visit.page.unroute("**/likes/mine")

    async def found() -> bool:
        await visit.page.evaluate("dispatchEvent(new Event('online'))")  # heard by whoever waits, not by a request
        return await visit.candidate("c01").button.get_attribute("data-state") == "liked"

    await until(found, what="the like is found again")
    await expect(visit.candidate("c01").said).to_have_text("点赞成功：候选人1")
    await expect(visit.card("c01").locator(".receipt code")).not_to_be_empty()
    await expect(visit.page.locator("#remaining dd")).to_have_text("2")
    assert await published(campaign, "c01") == 1


async def test_a_like_that_never_arrived_is_told_as_not_recorded(visit: Visit, campaign: CampaignClient) -> None:
    await visit.page.clock.install()
    await visit.open(campaign)
    await visit.candidate("c02").like()
    await visit.page.route(f"**{LIKES}", lambda route: route.abort("connectionrefused"))

    await visit.candidate("c01").tap()
    for tries in range(2, TRIES + 2):
        await visit.posted(LIKES, tries)
        await visit.page.clock.run_for(25_000)

    async def told() -> bool:
        await visit.page.clock.run_for(1_000)  # the last of those jumps may have timed out what was asked for
        return await visit.candidate("c01").said.text_content() == "没有记上，请重试"

    await until(told, what="it is told as not recorded")
    await visit.candidate("c01").expect_state("idle")


async def test_a_like_that_takes_long_says_so(visit: Visit, campaign: CampaignClient) -> None:
    go_on = asyncio.Event()

    async def hold(route: Route) -> None:
        await go_on.wait()
        await route.continue_()

    await visit.page.clock.install()
    await visit.open(campaign)
    await visit.page.route(f"**{LIKES}", hold)
    await visit.candidate("c01").tap()
    await visit.posted(LIKES, 1)

    await visit.page.clock.run_for(2_100)
    await expect(visit.candidate("c01").said).to_have_text("正在提交，请稍候…")
    go_on.set()

    await expect(visit.candidate("c01").said).to_have_text("点赞成功：候选人1")


async def test_earlier_likes_are_read_until_they_are_known(visit: Visit, campaign: CampaignClient) -> None:
    await visit.open(campaign)
    await visit.candidate("c01").like()
    await visit.page.route("**/likes/mine", refuse)

    await visit.reload()

    await visit.candidate("c01").expect_state("reading")
    await expect(visit.page.locator("#remaining dd")).to_have_text("正在读取你的点赞")
    await visit.page.unroute("**/likes/mine")
    await visit.candidate("c01").expect_state("liked")
    await expect(visit.page.locator("#remaining dd")).to_have_text("2")


async def test_a_token_that_has_expired_is_renewed_and_its_voter_stays_one(
    visit: Visit, campaign: CampaignClient, stores: Stores
) -> None:
    await visit.open(campaign)
    await visit.candidate("c01").like()
    key = (await stores.ledger.campaigns.document(await stores.lifecycle.stored(campaign.id))).key
    [(name, token)] = await visit.page.evaluate("Object.entries(localStorage).filter(([key]) => key.includes('/:'))")
    old = key.token(key.read_token(token, 0), int(time.time()) - 5 * 86_400)
    await visit.page.evaluate("([name, token]) => localStorage.setItem(name, token)", [name, old])

    await visit.reload()
    await visit.candidate("c01").expect_state("liked")
    await visit.candidate("c02").like()

    kept = await visit.page.evaluate("(name) => localStorage.getItem(name)", name)
    assert kept != old
    assert key.read_token(kept, 0) == key.read_token(token, 0)


OLDER = {
    "no AbortSignal.timeout": "delete AbortSignal.timeout",
    "no locks": "Object.defineProperty(navigator, 'locks', { value: undefined })",
    "channels blocked": "BroadcastChannel = class { constructor() { throw new DOMException('', 'SecurityError'); } }",
    "no channels": "delete window.BroadcastChannel",
    "storage that is full": "Storage.prototype.setItem = () => { throw new DOMException('', 'QuotaExceededError'); }",
}


@pytest.mark.parametrize("missing", OLDER)
async def test_a_first_like_counts_in_a_browser_that_lacks_something(
    visit: Visit, campaign: CampaignClient, missing: str
) -> None:
    await visit.page.add_init_script(OLDER[missing])
    await visit.open(campaign)

    await visit.candidate("c01").like()
    await visit.candidate("c02").like()

    assert visit.posts(VOTERS) == 1


async def test_what_is_copied_of_a_receipt_is_the_receipt(new_visit: NewVisit, campaign: CampaignClient) -> None:
    visit = await new_visit(permissions=["clipboard-read", "clipboard-write"])
    answers: list[dict[str, Any]] = []

    async def note(request: Request) -> None:
        if request.method == "POST" and request.url.endswith(LIKES):
            response = await request.response()
            assert response is not None
            answers.append(json.loads(await response.text()))

    visit.page.on("requestfinished", note)
    await visit.open(campaign)
    await visit.candidate("c01").like()

    await visit.card("c01").locator(".receipt button").click()

    await expect(visit.card("c01").locator(".receipt button")).to_have_text("已复制")
    copied = await visit.page.evaluate("navigator.clipboard.readText()")
    assert copied == answers[0]["results"][0]["receipt"]
