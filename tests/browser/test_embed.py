"""The button on somebody else's page: how it is put there, and what that page's own script may do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Page, Route, expect

from dianzan.cli.stores import Stores
from tests.browser.conftest import NewVisit
from tests.browser.media_site import MediaSite
from tests.browser.visit import LIKES, VOTERS, Visit
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
