"""What a person sees and does in the browser, as the tests write it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Error, Locator, Page, Request, Route, expect

from tests.support.client import CampaignClient
from tests.support.wait import until

LIKES, VOTERS = "/likes", "/voters"


@dataclass(frozen=True)
class LikeButton:
    """One <dianzan-like>; the locators look into its shadow tree."""

    root: Locator

    @property
    def button(self) -> Locator:
        return self.root.locator("button")

    @property
    def number(self) -> Locator:
        return self.root.locator(".number")

    @property
    def said(self) -> Locator:
        """The region that screen readers announce."""
        return self.root.get_by_role("status")

    async def tap(self) -> None:
        """Tap in whatever state; Playwright's own wait would hold back from a pending or locked button."""
        await self.button.click(force=True)

    async def like(self) -> None:
        """Tap, and wait until the server has said yes."""
        await self.tap()
        await self.expect_state("liked")

    async def expect_state(self, state: str) -> None:
        """Wait for idle, pending, liked or locked."""
        await expect(self.button).to_have_attribute("data-state", state)


@dataclass
class Visit:
    """One person's browser window on one campaign, and what it asked for and complained of."""

    page: Page
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", self._asked)
        self.page.on("console", self._hear)
        self.page.on("pageerror", self._crashed)

    async def open(self, campaign: CampaignClient, query: str = "") -> None:
        """Open the campaign's page and wait until its candidates and numbers are there."""
        async with self.page.expect_response("**/results/stream"):
            await self.page.goto(f"{campaign.system.results_url}/c/{campaign.id}{query}")
        await self.expect_shown()

    async def reload(self) -> None:
        """Reload as a person does, and wait until the page is there again."""
        async with self.page.expect_response("**/results/stream"):
            await self.page.reload()
        await self.expect_shown()

    async def expect_shown(self) -> None:
        """Wait until the candidates are listed and their buttons are ready."""
        await expect(self.page.locator("#as-of")).not_to_be_empty()
        await expect(self.page.locator("#candidates dianzan-like button").first).to_be_visible()

    def candidate(self, code: str) -> LikeButton:
        """The button on a candidate's card."""
        return LikeButton(self.card(code).locator("dianzan-like"))

    def card(self, code: str) -> Locator:
        """A candidate's card."""
        return self.page.locator(f"#candidates li:has(dianzan-like[candidate={code}])")

    def embedded(self, code: str) -> LikeButton:
        """A button on somebody else's site."""
        return LikeButton(self.page.locator(f"dianzan-like[candidate={code}]"))

    async def codes_in_order(self) -> list[str]:
        """The candidates from first to last, as the page orders them."""
        codes: list[str] = await self.page.locator("#candidates dianzan-like").evaluate_all(
            "buttons => buttons.map((each) => each.getAttribute('candidate'))"
        )
        return codes

    def posts(self, path: str) -> int:
        """How many requests were posted to an address that ends in `path`."""
        return sum(r.method == "POST" and urlsplit(r.url).path.endswith(path) for r in self.requests)

    async def posted(self, path: str, count: int) -> None:
        """Wait for so many such requests."""

        async def enough() -> bool:
            return self.posts(path) >= count

        await until(enough, what=f"{count} posts to {path}")

    def _asked(self, request: Request) -> None:
        self.requests.append(request)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _crashed(self, error: Error) -> None:
        self.crashes.append(str(error))


async def refuse(route: Route) -> None:
    """Answer 503 as the vote API does: asking again is safe."""
    headers = {"access-control-allow-origin": "*", "access-control-expose-headers": "retry-after", "retry-after": "1"}
    await route.fulfill(
        status=503, headers=headers, content_type="application/problem+json", body='{"code": "overloaded"}'
    )
