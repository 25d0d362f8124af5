"""What a voter, a reader and an operator do, as the tests write it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from dianzan.cli.stores import Stores
from dianzan.domain.campaign import Rules
from dianzan.domain.campaign_file import parse_rules
from dianzan.domain.voters import Voter, VoterClass
from dianzan.roster.candidates import Candidate
from tests.support.system import System
from tests.support.wait import until

_numbers = itertools.count(1)


@dataclass(frozen=True)
class VoterClient:
    """One voter with a token."""

    http: httpx.AsyncClient
    likes_url: str
    token: str

    async def ask(self, *candidates: str) -> httpx.Response:
        """Send a like request and return the whole answer."""
        headers = {"authorization": f"Bearer {self.token}"}
        return await self.http.post(self.likes_url, json={"candidates": candidates}, headers=headers)

    async def like(self, *candidates: str) -> dict[str, Any]:
        """Like, expect 200, and return the body."""
        answer = await self.ask(*candidates)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def statuses(self, *candidates: str) -> list[str]:
        """Like and return the statuses in order."""
        return [result["status"] for result in (await self.like(*candidates))["results"]]

    async def mine(self) -> dict[str, Any]:
        """What this voter has liked in this window."""
        answer = await self.http.get(f"{self.likes_url}/mine", headers={"authorization": f"Bearer {self.token}"})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


@dataclass(frozen=True)
class CampaignClient:
    """One campaign seen from outside."""

    id: str
    http: httpx.AsyncClient
    system: System
    stores: Stores

    @property
    def vote_url(self) -> str:
        return f"{self.system.vote_url}/v1/campaigns/{self.id}"

    @property
    def results_url(self) -> str:
        return f"{self.system.results_url}/v1/campaigns/{self.id}"

    async def until_served(self) -> None:
        """Wait until both APIs know the campaign."""

        async def known() -> bool:
            asked = [f"{self.vote_url}/likes/mine", self.results_url]
            return all([(await self.http.get(url)).status_code != 404 for url in asked])

        await until(known, what=f"campaign {self.id} is served")

    async def voter(self, publisher: str | None = None) -> VoterClient:
        """A new voter of the device class, as a browser becomes one."""
        answer = await self.http.post(f"{self.vote_url}/voters", json={"publisher": publisher})
        assert answer.status_code == 200, answer.text
        return self.with_token(answer.json()["token"])

    def with_token(self, token: str) -> VoterClient:
        """A voter that already has a token."""
        return VoterClient(self.http, f"{self.vote_url}/likes", token)

    async def known_voter(
        self, subject: str, voter_class: VoterClass = VoterClass.device, made_s: int = 2**31
    ) -> VoterClient:
        """The voter an operator names; the same subject is the same voter."""
        document = await self.stores.ledger.campaigns.document(await self.stores.lifecycle.stored(self.id))
        voter = Voter(document.key.voter_hash("operator", subject.encode()), voter_class, 0)
        return self.with_token(document.key.token(voter, made_s))

    async def get(self, path: str = "", **headers: str) -> httpx.Response:
        """A document of the results API."""
        return await self.http.get(f"{self.results_url}{path}", headers=headers)

    async def results(self) -> dict[str, Any]:
        """The results document."""
        answer = await self.get("/results")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def likes_of(self, code: str) -> int | None:
        """Published likes of one candidate."""
        likes: dict[str, int | None] = {row["code"]: row["likes"] for row in (await self.results())["results"]}
        return likes[code]


def candidates(count: int) -> list[Candidate]:
    """c01, c02, …"""
    return [
        Candidate(f"c{i:02}", f"候选人{i}", "person", "东城区", "社区服务", "简介", "事迹", "")
        for i in range(1, count + 1)
    ]


def rules(**changes: Any) -> Rules:
    """Rules of a campaign that opened an hour ago and closes tomorrow, changed as asked; a new id each time."""
    now = datetime.now(UTC)
    usual = {
        "id": f"t{next(_numbers)}",
        "title": "为榜样点赞",
        "opens": now - timedelta(hours=1),
        "closes": now + timedelta(days=1),
        "likes_per_window": 3,
        "shards": 4,
        "expected_voters": 1_000,
    }
    return parse_rules({**usual, **changes}, "the test's campaign")


async def publish(stores: Stores, wanted: Rules, roster: Sequence[Candidate]) -> None:
    """Create, import and publish, as an operator does."""
    await stores.lifecycle.create(wanted)
    await stores.lifecycle.import_candidates(wanted.id, roster)
    await stores.lifecycle.publish(wanted.id)
