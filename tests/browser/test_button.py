"""The button when answers are late or lost, in several tabs, and on pages that put it there in their own way."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Page, Request, Route, expect

from dianzan.cli.stores import Stores
from tests.browser.conftest import NewVisit
from tests.browser.media_site import MediaSite
from tests.browser.visit import LIKES, VOTERS, Visit, refuse
from tests.conftest import NewCampaign
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


# ---- on somebody else's page ----------------------------------------------------------------------------------------


async def _article(visit: Visit, site: MediaSite, campaign: CampaignClient, tag: str) -> Page:
    """An article whose button is this tag."""
    await visit.page.goto(site.article(campaign.id, buttons=tag))
    return visit.page


def _asked(visit: Visit) -> list[str]:
    return [request.url for request in visit.requests]


async def test_the_order_of_attributes_and_capitals_do_not_matter(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite
) -> None:
    tag = f'<dianzan-like candidate="C01" campaign="{campaign.id.upper()}"></dianzan-like>'
    page = await _article(visit, media_site, campaign, tag)
    button = page.locator("dianzan-like button")

    await button.click()

    await expect(button).to_have_attribute("data-state", "liked")


async def test_a_button_without_a_campaign_is_locked_and_says_which_attribute_is_missing(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite
) -> None:
    page = await _article(visit, media_site, campaign, '<dianzan-like candidate="c01"></dianzan-like>')

    await expect(page.locator("dianzan-like button")).to_have_attribute("data-state", "locked")
    assert [line for line in visit.complaints if "the attribute campaign is missing" in line]
    assert not [url for url in _asked(visit) if "/v1/campaigns/null" in url]


async def test_a_button_of_no_campaign_there_is_is_locked_and_says_so(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite
) -> None:
    tag = '<dianzan-like candidate="c01" campaign="nosuch"></dianzan-like>'
    page = await _article(visit, media_site, campaign, tag)
    button = page.locator("dianzan-like")

    await expect(button.locator("button")).to_have_attribute("data-state", "locked")
    await button.locator("button").click(force=True)

    await expect(button.get_by_role("status")).to_have_text("没有这个活动")
    assert len([line for line in visit.complaints if "there is no campaign nosuch" in line]) == 1


async def test_a_button_before_the_opening_is_locked_until_the_campaign_opens(
    new_visit: NewVisit, new_campaign: NewCampaign, media_site: MediaSite
) -> None:
    late = await new_campaign(opens=datetime.now(UTC) + timedelta(hours=1))
    soon = await new_campaign(opens=datetime.now(UTC) + timedelta(seconds=8))
    for campaign, state in ((late, "locked"), (soon, "idle")):
        visit = await new_visit()
        tag = f'<dianzan-like candidate="c01" campaign="{campaign.id}"></dianzan-like>'
        button = (await _article(visit, media_site, campaign, tag)).locator("dianzan-like")
        await expect(button.locator("button")).to_have_attribute("data-state", "locked")

        await button.locator("button").click(force=True)
        await expect(button.get_by_role("status")).to_have_text("活动还没有开始")

        assert visit.posts(VOTERS) == 0
        await expect(button.locator("button")).to_have_attribute("data-state", state, timeout=20_000)
    await expect(button.get_by_role("status")).to_have_text("")


async def test_a_button_of_a_campaign_that_was_closed_early_is_locked(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite, stores: Stores
) -> None:
    await stores.lifecycle.close(campaign.id, early="the test")

    async def told() -> bool:
        return bool((await campaign.results())["state"] == "closed")

    await until(told)
    tag = f'<dianzan-like candidate="c01" campaign="{campaign.id}"></dianzan-like>'
    page = await _article(visit, media_site, campaign, tag)

    await expect(page.locator("dianzan-like button")).to_have_attribute("data-state", "locked")


@pytest.mark.parametrize(
    "script",
    [
        '<script type="module">await import("{}/like-button.js");</script>',
        '<script src="{}/like-button.js?v=3" async></script>',
        '<script src="{}/like-button.js" type="module"></script>',
        '<script src="{}/renamed" defer></script>',
    ],
    ids=["imported", "versioned", "as a module", "renamed"],
)
async def test_the_script_works_however_a_page_loads_it(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite, script: str
) -> None:
    async def renamed(route: Route) -> None:
        await route.fulfill(response=await route.fetch(url=f"{campaign.system.results_url}/like-button.js"))

    await visit.page.route("**/renamed", renamed)
    page = visit.page
    await page.goto(media_site.article(campaign.id, script=script.format(campaign.system.results_url)))

    await page.locator("dianzan-like[candidate=c01] button").click()

    await expect(page.locator("dianzan-like[candidate=c01] button")).to_have_attribute("data-state", "liked")


async def test_a_publisher_that_the_campaign_does_not_have_is_said_in_the_console(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite
) -> None:
    tag = f'<dianzan-like candidate="c01" campaign="{campaign.id}" publisher="bjnewz"></dianzan-like>'
    page = await _article(visit, media_site, campaign, tag)

    await page.locator("dianzan-like button").click()

    await expect(page.locator("dianzan-like button")).to_have_attribute("data-state", "liked")
    assert [line for line in visit.complaints if '"bjnewz" is no publisher of' in line]


async def test_a_router_that_changes_the_candidate_leaves_no_message_of_the_former(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite
) -> None:
    tag = f'<dianzan-like candidate="c01" campaign="{campaign.id}"></dianzan-like>'
    page = await _article(visit, media_site, campaign, tag)
    button = page.locator("dianzan-like")
    await button.locator("button").click()
    await expect(button.get_by_role("status")).to_have_text("点赞成功：候选人1")

    await button.evaluate("(element) => element.setAttribute('candidate', 'c02')")

    await expect(button.get_by_role("status")).to_have_text("")
    await expect(button.locator("button")).to_have_attribute("data-state", "idle")


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


async def test_a_like_is_told_of_whom_it_was_for_though_a_router_has_gone_on(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite
) -> None:
    answer_now = asyncio.Event()

    async def late(route: Route) -> None:
        await answer_now.wait()
        await route.continue_()

    await visit.page.route("**/likes", late)
    tag = f'<dianzan-like candidate="c01" campaign="{campaign.id}"></dianzan-like>'
    page = await _article(visit, media_site, campaign, tag)
    button = page.locator("dianzan-like")
    await page.evaluate("document.addEventListener('dianzan-liked', (event) => { window.told = event.detail; })")
    await button.locator("button").click()
    await visit.posted(LIKES, 1)

    await button.evaluate("(element) => element.setAttribute('candidate', 'c02')")
    answer_now.set()
    await page.wait_for_function("window.told")

    assert (await page.evaluate("window.told"))["candidate"] == "c01"
    await expect(button.get_by_role("status")).to_have_text("")
    await expect(button.locator("button")).to_have_attribute("data-state", "idle")


CLICKS = {
    "click()": "(button) => button.click()",
    "an event": "(button) => button.dispatchEvent(new MouseEvent('click', { bubbles: true, composed: true }))",
    "its methods": "(button) => { const host = button.getRootNode().host; host.tap?.(); host.like?.(); }",
}


@pytest.mark.parametrize("way", CLICKS)
async def test_a_page_s_script_cannot_tap_for_its_visitors(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite, way: str
) -> None:
    tag = f'<dianzan-like candidate="c01" campaign="{campaign.id}"></dianzan-like>'
    page = await _article(visit, media_site, campaign, tag)
    button = page.locator("dianzan-like button")
    await expect(button).to_have_attribute("data-state", "idle")

    await button.evaluate(CLICKS[way])

    assert await button.get_attribute("data-state") == "idle", "a tap is pending at once"
    await button.click()
    await expect(button).to_have_attribute("data-state", "liked")


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


async def test_a_button_without_a_candidate_is_locked_and_asks_for_nothing(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite
) -> None:
    tag = f'<dianzan-like campaign="{campaign.id}"></dianzan-like>'
    page = await _article(visit, media_site, campaign, tag)
    button = page.locator("dianzan-like")

    await expect(button.locator("button")).to_have_attribute("data-state", "locked")
    await button.locator("button").click(force=True)

    await expect(button.get_by_role("status")).to_have_text("没有这位候选人")
    assert (visit.posts(VOTERS), visit.posts(LIKES)) == (0, 0)


@pytest.mark.parametrize("late", ["candidate", "campaign"])
async def test_a_button_whose_script_names_the_rest_later_works_then_and_is_locked_without(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite, late: str
) -> None:
    attributes = {"candidate": "c01", "campaign": campaign.id}
    value = attributes.pop(late)
    [(name, known)] = attributes.items()
    page = await _article(visit, media_site, campaign, f'<dianzan-like {name}="{known}"></dianzan-like>')
    element, button = page.locator("dianzan-like"), page.locator("dianzan-like button")
    await expect(button).to_have_attribute("data-state", "locked")

    await element.evaluate("(element, [name, value]) => element.setAttribute(name, value)", [late, value])
    await expect(button).to_have_attribute("data-state", "idle")
    await element.evaluate("(element, name) => element.removeAttribute(name)", late)
    await expect(button).to_have_attribute("data-state", "locked")
    await element.evaluate("(element, [name, value]) => element.setAttribute(name, value)", [late, value])
    await button.click()

    await expect(button).to_have_attribute("data-state", "liked")


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
