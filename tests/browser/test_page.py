"""What the public sees: the page and the embedded button in a real browser, against the real system."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Route, expect

from dianzan.cli.stores import Stores
from dianzan.roster.candidates import Candidate
from tests.browser.conftest import NewVisit
from tests.browser.media_site import NORMAL, SANDBOXED, MediaSite
from tests.browser.visit import LIKES, VOTERS, Visit, refuse
from tests.conftest import NewCampaign
from tests.support.client import CampaignClient
from tests.support.wait import until

RECEIPT = re.compile(r"^[0-9A-HJKMNP-TV-Z]{16}$")

# Keeps every number that a reader could have seen since.
WATCH = """(number) => {
  number.seen = [number.textContent];
  new MutationObserver(() => number.seen.push(number.textContent))
    .observe(number, { childList: true, characterData: true, subtree: true });
}"""


async def test_a_like_is_shown_kept_over_a_reload_and_has_a_receipt(visit: Visit, campaign: CampaignClient) -> None:
    await visit.open(campaign)
    await visit.candidate("c02").like()
    await expect(visit.candidate("c02").number).to_have_text("1")
    receipt = await visit.card("c02").locator(".receipt code").inner_text()
    await _published(campaign, "c02", 1)

    await visit.reload()

    await visit.candidate("c02").expect_state("liked")
    await expect(visit.candidate("c02").number).to_have_text("1")
    await expect(visit.card("c02").locator(".receipt code")).to_have_text(receipt)
    assert RECEIPT.match(receipt)
    await expect(visit.page.locator("#remaining dd")).to_have_text("2")


async def test_the_number_rises_by_one_and_never_falls_while_the_results_catch_up(
    visit: Visit, campaign: CampaignClient
) -> None:
    await (await campaign.voter()).like("c01")
    await _published(campaign, "c01", 1)
    stale = _Stale(await campaign.results())
    await visit.page.route("**/results/stream", stale.answer)
    await visit.open(campaign)
    number = visit.candidate("c01").number
    await expect(number).to_have_text("1")
    await number.evaluate(WATCH)

    await visit.candidate("c01").like()
    await stale.repeated(3)
    await visit.page.unroute("**/results/stream")
    await (await campaign.voter()).like("c01")

    await expect(number).to_have_text("3")
    seen = [int(text) for text in await number.evaluate("(number) => number.seen")]
    assert sorted(set(seen)) == [1, 2, 3]
    assert seen == sorted(seen)


async def test_five_fast_taps_send_one_like(visit: Visit, campaign: CampaignClient) -> None:
    await visit.open(campaign)
    button = visit.candidate("c03").button
    await button.scroll_into_view_if_needed()
    box = await button.bounding_box()
    assert box is not None

    for _ in range(5):
        await visit.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    await visit.candidate("c03").expect_state("liked")
    await _published(campaign, "c03", 1)
    assert (visit.posts(VOTERS), visit.posts(LIKES)) == (1, 1)


async def test_a_like_refused_twice_is_pending_until_it_is_counted(visit: Visit, campaign: CampaignClient) -> None:
    await visit.open(campaign)
    await visit.page.route("**/likes", refuse, times=2)

    await visit.candidate("c01").tap()

    await expect(visit.candidate("c01").said).to_have_text("网络繁忙，正在重试…")
    await visit.candidate("c01").expect_state("pending")
    await expect(visit.candidate("c01").number).to_have_text("0")
    await visit.candidate("c01").expect_state("liked")
    await expect(visit.candidate("c01").number).to_have_text("1")
    assert visit.posts(LIKES) == 3


async def test_a_like_whose_first_answer_was_lost_is_told_as_the_voters_own(
    visit: Visit, campaign: CampaignClient
) -> None:
    async def lose(route: Route) -> None:
        await route.fetch()
        await refuse(route)

    await visit.open(campaign)
    await visit.page.route("**/likes", lose, times=1)

    await visit.candidate("c01").like()

    await expect(visit.candidate("c01").said).to_have_text("点赞成功：候选人1")
    await _published(campaign, "c01", 1)


async def test_a_like_that_is_always_refused_is_told_and_not_shown(visit: Visit, campaign: CampaignClient) -> None:
    await visit.page.clock.install()
    await visit.open(campaign)
    await visit.page.route("**/likes", refuse)
    await visit.candidate("c01").number.evaluate(WATCH)

    await visit.candidate("c01").tap()
    for tries in range(1, 6):
        await visit.posted(LIKES, tries)
        await expect(visit.candidate("c01").said).not_to_be_empty()
        await visit.page.clock.run_for(15_000)

    await expect(visit.candidate("c01").said).to_have_text("没有记上，请重试")
    await visit.candidate("c01").expect_state("idle")
    assert set(await visit.candidate("c01").number.evaluate("(number) => number.seen")) == {"0"}


async def test_a_like_over_the_quota_says_when_the_next_may_be_cast(visit: Visit, new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(likes_per_window=1, closes=datetime.now(UTC) + timedelta(days=3))
    resets_at = datetime.fromisoformat((await (await campaign.voter()).mine())["resets_at"])
    await visit.open(campaign)
    await visit.candidate("c01").like()

    await visit.candidate("c02").tap()

    midnight = f"{resets_at.month}月{resets_at.day}日 00:00"
    await expect(visit.candidate("c02").said).to_have_text(f"点赞次数用完了，{midnight} 恢复")
    await visit.candidate("c02").expect_state("idle")
    await expect(visit.candidate("c02").number).to_have_text("0")


async def test_after_the_close_the_buttons_lock_and_say_so(
    visit: Visit, campaign: CampaignClient, stores: Stores
) -> None:
    await visit.open(campaign)
    await visit.candidate("c01").like()
    await stores.lifecycle.close(campaign.id)

    await visit.candidate("c02").tap()

    await expect(visit.candidate("c02").said).to_have_text("点赞已经截止")
    for code in ("c02", "c03"):
        await visit.candidate(code).expect_state("locked")
    await expect(visit.page.locator("#phase")).to_contain_text("点赞已经截止")
    await expect(visit.candidate("c02").number).to_have_text("0")

    await _in_state(campaign, "closed")
    await visit.reload()
    await expect(visit.page.locator("#phase")).to_contain_text("点赞已经截止")
    await visit.candidate("c01").expect_state("liked")
    await visit.candidate("c03").expect_state("locked")


@pytest.mark.parametrize(("policy", "after_reload"), [(NORMAL, "liked"), (SANDBOXED, "idle")])
async def test_an_embedded_button_likes_from_another_origin_with_or_without_storage(
    visit: Visit, campaign: CampaignClient, media_site: MediaSite, policy: str, after_reload: str
) -> None:
    await visit.page.goto(media_site.article(campaign.id, policy))
    await expect(visit.embedded("c01").number).to_have_text("0")

    both = asyncio.Event()

    async def hold(route: Route) -> None:
        await both.wait()
        await route.continue_()

    await visit.page.route(f"**{VOTERS}", hold)
    for code in ("c01", "c02"):
        await visit.embedded(code).tap()
        await visit.embedded(code).expect_state("pending")  # no token has arrived
    both.set()

    await visit.embedded("c01").expect_state("liked")
    await visit.embedded("c02").expect_state("liked")
    await expect(visit.embedded("c01").number).to_have_text("1")
    assert visit.posts(VOTERS) == 1, "two buttons of one page are one voter"
    await _published(campaign, "c02", 1)
    await visit.page.reload()
    await expect(visit.embedded("c01").number).to_have_text("1")
    await visit.embedded("c01").expect_state(after_reload)


async def test_hidden_results_show_no_number_and_no_order(visit: Visit, new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(results="hidden")
    for _ in range(2):
        await (await campaign.voter()).like("c03")
    await visit.open(campaign)

    await visit.candidate("c05").like()

    assert await visit.codes_in_order() == ["c01", "c02", "c03", "c04", "c05"]
    for shown in await visit.page.locator(".number, .rank, .people, #total-likes dd, #total-people dd").all():
        assert await shown.text_content() == ""
    await expect(visit.page.locator("#as-of")).to_have_text("活动结束后公布点赞数")
    await expect(visit.page.locator("#sort option[value=rank]")).to_be_disabled()
    await expect(visit.page.locator("#sort")).to_have_value("code")


async def test_a_story_opens_and_closes_in_a_browser_without_dialogs(visit: Visit, campaign: CampaignClient) -> None:
    forget = "for (const name of ['show', 'showModal', 'close']) delete HTMLDialogElement.prototype[name];"
    await visit.page.add_init_script(forget)
    await visit.open(campaign)
    name, story = visit.card("c01").locator(".name"), visit.page.locator("#story")

    for way in ("button", "key"):
        await name.click()
        await expect(story.locator(".text")).to_contain_text("事迹")
        await expect(story.locator(".close")).to_be_focused()
        await (story.locator(".close").click() if way == "button" else visit.page.keyboard.press("Escape"))
        await expect(story).to_be_hidden()
        await expect(name).to_be_focused()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
async def test_page_and_story_have_no_accessibility_violations(
    new_visit: NewVisit, campaign: CampaignClient, color_scheme: str
) -> None:
    visit = await new_visit(color_scheme=color_scheme, reduced_motion="reduce")
    await visit.open(campaign)
    await visit.candidate("c01").like()
    assert await _violations(visit.page) == []

    await visit.card("c01").locator(".name").click()
    await expect(visit.page.locator("dialog .text")).to_contain_text("事迹")

    assert await _violations(visit.page) == []


async def test_nothing_is_wider_than_a_screen_of_320_pixels(new_visit: NewVisit, campaign: CampaignClient) -> None:
    visit = await new_visit(viewport={"width": 320, "height": 640})
    await visit.open(campaign, "?lang=en")
    await visit.candidate("c01").like()
    await visit.candidate("c01").tap()
    assert await _width(visit.page, "html") <= 320

    await visit.card("c01").locator(".name").click()
    await expect(visit.page.locator("dialog .text")).to_contain_text("事迹")

    assert await _width(visit.page, "html") <= 320
    assert await _width(visit.page, "dialog") <= 320


async def test_the_like_of_another_voter_arrives_live_within_two_seconds(
    visit: Visit, campaign: CampaignClient
) -> None:
    await visit.open(campaign)
    await expect(visit.candidate("c04").number).to_have_text("0")

    await (await campaign.voter()).like("c04")

    await expect(visit.candidate("c04").number).to_have_text("1", timeout=2_000)
    await expect(visit.page.locator("#total-likes dd")).to_have_text("1")
    reads = [request for request in visit.requests if urlsplit(request.url).path.endswith("/results")]
    assert len(reads) == 1, "live means pushed, not read again"


async def test_the_page_is_in_the_readers_language_unless_another_is_chosen_and_keeps_the_choice(
    new_visit: NewVisit, campaign: CampaignClient
) -> None:
    visit = await new_visit(locale="zh-CN")
    await visit.open(campaign)
    await expect(visit.page.locator("html")).to_have_attribute("lang", "zh-CN")
    await expect(visit.candidate("c01").button).to_contain_text("点赞")

    await visit.page.locator("#language").click()
    await expect(visit.page.locator("html")).to_have_attribute("lang", "en")
    await visit.open(campaign)

    await expect(visit.page.locator("html")).to_have_attribute("lang", "en")
    await expect(visit.page.locator("#phase")).to_contain_text("Open until")
    await expect(visit.candidate("c01").button).to_contain_text("Like")
    await visit.candidate("c01").like()
    await expect(visit.candidate("c01").said).to_have_text("Your like for 候选人1 is counted")


async def test_a_screen_reader_hears_a_like_and_a_refusal(visit: Visit, new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(likes_per_window=1)
    await visit.open(campaign)
    named = visit.page.get_by_role("button", name=re.compile("点赞 候选人1"))
    await expect(named).to_have_attribute("aria-pressed", "false")
    await expect(visit.candidate("c01").said).to_have_count(1)  # a region born with its text is not announced

    await visit.candidate("c01").like()
    await visit.candidate("c02").tap()

    await expect(visit.candidate("c01").said).to_have_text("点赞成功：候选人1")
    await expect(visit.page.get_by_role("button", name=re.compile("已赞 候选人1"), pressed=True)).to_be_visible()
    await expect(visit.candidate("c02").said).to_contain_text("点赞次数用完了")


async def test_a_candidate_can_be_read_and_liked_by_keyboard_alone(visit: Visit, campaign: CampaignClient) -> None:
    await visit.open(campaign)
    name = visit.card("c02").locator(".name")
    await name.focus()
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.get_by_role("dialog", name="候选人2")).to_be_visible()

    while not await visit.page.evaluate("document.activeElement.matches('dialog dianzan-like')"):
        await visit.page.keyboard.press("Tab")
    await visit.page.keyboard.press("Space")
    await expect(visit.page.locator("dialog dianzan-like button")).to_have_attribute("data-state", "liked")
    await visit.page.keyboard.press("Escape")

    await expect(name).to_be_focused()
    await visit.candidate("c02").expect_state("liked")


async def test_nothing_is_asked_of_other_hosts_and_the_content_policy_is_kept(
    visit: Visit, campaign: CampaignClient
) -> None:
    await visit.open(campaign)
    await visit.candidate("c01").like()
    await visit.card("c02").locator(".name").click()
    await expect(visit.page.locator("dialog .text")).to_contain_text("事迹")

    own = {campaign.system.results_url, campaign.system.vote_url}
    assert {f"{url.scheme}://{url.netloc}" for url in (urlsplit(r.url) for r in visit.requests)} == own
    assert visit.complaints == []


class _Stale:
    """Answers the event stream with results of the past, again and again."""

    def __init__(self, results: dict[str, Any]) -> None:
        counts = {row["code"]: [row["rank"], row["likes"], row["people"]] for row in results["results"]}
        self._event = json.dumps({**results, "counts": counts})
        self._sent = 0

    async def answer(self, route: Route) -> None:
        """Send one event and end; the browser asks again after the 50 ms it is told."""
        body = f"retry: 50\nevent: results\ndata: {self._event}\n\n"
        await route.fulfill(content_type="text/event-stream", body=body)
        self._sent += 1

    async def repeated(self, times: int) -> None:
        """Wait until the past has been told so many times more."""
        enough = self._sent + times

        async def sent() -> bool:
            return self._sent >= enough

        await until(sent, what=f"{times} stale events")


async def _published(campaign: CampaignClient, code: str, likes: int) -> None:
    async def reached() -> bool:
        return await campaign.likes_of(code) == likes

    await until(reached, what=f"{likes} likes of {code} in the results")


async def _in_state(campaign: CampaignClient, state: str) -> None:
    async def reached() -> bool:
        return bool((await campaign.get()).json()["state"] == state)

    await until(reached, what=f"the campaign is {state}")


async def _violations(page: Page) -> list[tuple[str, list[Any]]]:
    found = (await Axe().run(page)).response["violations"]
    return [(each["id"], [node["target"] for node in each["nodes"]]) for each in found]


async def _width(page: Page, selector: str) -> int:
    width: int = await page.locator(selector).first.evaluate("(element) => element.scrollWidth")
    return width


# ---- what changes while the page is open ----------------------------------------------------------------------------


async def test_an_open_page_learns_that_the_campaign_goes_on_and_who_came_to_it(
    visit: Visit, new_campaign: NewCampaign, stores: Stores
) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=30)
    campaign = await new_campaign(closes=soon)
    rules = (await stores.lifecycle.stored(campaign.id)).rules
    await visit.open(campaign)
    await expect(visit.page.locator("#phase")).to_contain_text("分钟")
    await visit.candidate("c01").like()

    await stores.lifecycle.create(rules.model_copy(update={"closes": soon + timedelta(days=3), "title": "改名了"}))
    added = [Candidate("c09", "新来的", "person", "", "", "", "", "")]
    await stores.lifecycle.import_candidates(campaign.id, added)

    await expect(visit.page.locator("#title")).to_have_text("改名了")
    await expect(visit.page.locator("#phase")).to_contain_text("天")
    await expect(visit.card("c09")).to_be_visible()
    await visit.candidate("c01").expect_state("liked")
    await visit.candidate("c09").like()


async def test_a_reader_keeps_the_order_and_the_place_when_the_campaign_changes(
    visit: Visit, campaign: CampaignClient, stores: Stores
) -> None:
    await visit.open(campaign)
    await visit.page.locator("#sort").select_option("district")
    name = visit.card("c03").locator(".name")
    await name.focus()

    await stores.lifecycle.import_candidates(campaign.id, [Candidate("c09", "新来的", "person", "", "", "", "", "")])

    await expect(visit.card("c09")).to_be_visible()
    await expect(visit.page.locator("#sort")).to_have_value("district")
    await expect(name).to_be_focused()


async def test_an_end_that_was_put_off_unheard_is_asked_about_before_the_buttons_lock(
    visit: Visit, new_campaign: NewCampaign, stores: Stores
) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=30)
    campaign = await new_campaign(closes=soon)
    rules = (await stores.lifecycle.stored(campaign.id)).rules
    await visit.page.clock.install()
    await visit.open(campaign)
    await visit.page.route("**/results/stream", lambda route: route.abort())
    await visit.page.route("**/results", lambda route: route.abort())

    await stores.lifecycle.create(rules.model_copy(update={"closes": soon + timedelta(days=3)}))
    await visit.page.clock.fast_forward("31:00")
    await visit.page.unroute("**/results")
    await visit.page.clock.run_for(20_000)

    await expect(visit.page.locator("#phase")).to_contain_text("天")
    await visit.candidate("c01").expect_state("idle")


async def test_a_page_in_a_tab_that_nobody_sees_holds_no_stream(visit: Visit, campaign: CampaignClient) -> None:
    await visit.page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => !window.seen })")
    await visit.page.goto(f"{campaign.system.results_url}/c/{campaign.id}")
    await visit.expect_shown()
    assert not [request for request in visit.requests if request.url.endswith("/stream")]

    async with visit.page.expect_request("**/results/stream"):
        await visit.page.evaluate("window.seen = true; document.dispatchEvent(new Event('visibilitychange'))")


async def test_before_the_first_like_nobody_has_a_rank(visit: Visit, campaign: CampaignClient) -> None:
    await visit.open(campaign)

    assert await visit.page.locator("#candidates .rank").all_inner_texts() == [""] * 5


async def test_an_english_reader_gets_english(new_visit: NewVisit, campaign: CampaignClient) -> None:
    visit = await new_visit(locale="en-GB")
    await visit.open(campaign)

    await expect(visit.candidate("c01").button).to_contain_text("Like")


async def test_the_page_says_what_the_campaign_says_of_itself(new_visit: NewVisit, new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(
        title_en="Role models",
        brand="北京榜样",
        brand_en="Beijing role models",
        introduction="一年一度。\n\n每人每天可点三位。",
        organiser="首都文明办",
        icp_number="京ICP备00000000号",
    )
    visit = await new_visit(locale="zh-CN")
    await visit.open(campaign)

    await expect(visit.page.locator(".brand")).to_have_text("北京榜样")
    await expect(visit.page.locator("#about dt")).to_have_text(["活动介绍", "主办单位", "备案号"])
    await expect(visit.page.locator("#about dd").first.locator("p")).to_have_text(["一年一度。", "每人每天可点三位。"])

    reader = await new_visit(locale="en-GB")
    await reader.open(campaign)
    await expect(reader.page).to_have_title("Role models")
    await expect(reader.page.locator(".brand")).to_have_text("Beijing role models")
