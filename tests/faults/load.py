"""Voters: they like, repeat themselves, ask again through another API, go over their quota, and write it all down."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from dianzan.domain import wire
from dianzan.domain.campaign import Document
from dianzan.domain.voters import Voter, VoterClass
from tests.faults.checker import acknowledged, unresolved
from tests.faults.http import Connection
from tests.faults.journal import Attempt, Heard, Journal
from tests.support.wait import until

REPEATS = 0.10  # of the attempts: a like asked before, by the same voter
ELSEWHERE = 0.05  # of the attempts: the same through another API process
RESOLVING = 24  # voters who ask again at once, as many as are at work
ANSWER_S_MAX = 12.0  # above everything the service itself waits for
# Refusals that say that nothing was counted; every other 5xx is unknown.
REFUSALS = frozenset({"store_unsafe", "overloaded", "store_full", "clock_skewed", "rules_moved"})


class Load:
    """Some voters at work at once, each with a connection to each API process, at a bounded rate together."""

    def __init__(
        self,
        document: Document,
        ports: Sequence[int],
        journal: Path,
        rng: random.Random,
        *,
        voters: int = 24,
        likes_per_s: float = 300.0,
    ) -> None:
        self.document = document
        self.journal = Journal(journal)
        self._ports = ports
        self._rng = rng
        self._voters = voters
        self._pause_s = voters / likes_per_s
        self._quota = document.rules.likes_per_window
        self._asked: list[tuple[bytes, tuple[str, ...]]] = []
        self._stopping = False
        self._going = asyncio.Event()
        self._going.set()
        self.voter_count: int | None = None  # None: a new voter for nearly every attempt
        self.favourite: str | None = None  # a candidate that everybody likes

    # ---- at work ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Voters are at work for the length of the block."""
        self._stopping = False
        tasks = [asyncio.create_task(self._work(random.Random(self._rng.random()))) for _ in range(self._voters)]
        try:
            yield
        finally:
            self._stopping = True
            self._going.set()
            await asyncio.gather(*tasks)

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Nobody asks for the length of the block, which begins when every voter has been answered."""
        self._going.clear()

        async def heard() -> bool:
            return all(attempt.heard is not None for attempt in self.attempts)

        await until(heard, within_s=2 * ANSWER_S_MAX, what="every voter is answered")
        try:
            yield
        finally:
            self._going.set()

    async def like(self, api: int, subject: bytes, *codes: str) -> Attempt:
        """One attempt of a named voter, over a connection of its own."""
        with self._connected() as connections:
            return await self.ask(connections, api, self.document.key.voter_hash("device", subject), codes)

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt so far, in order."""
        return self.journal.attempts

    def since(self, began_s: float, *apis: int) -> list[Attempt]:
        """What was asked after an instant, of these API processes or of all."""
        return [a for a in self.attempts if a.asked_s > began_s and (not apis or a.api in apis)]

    def waiting(self, api: int) -> list[Attempt]:
        """What one API process was asked and has not answered."""
        return [a for a in self.attempts if a.heard is None and a.api == api]

    async def until_liked(self, likes: int, *, within_s: float = 30.0) -> None:
        """Wait for that many more answers of 200."""
        goal = self.answered() + likes

        async def reached() -> bool:
            return self.answered() >= goal

        await until(reached, within_s=within_s, what=f"{likes} more requests are answered")

    async def until_unknown(self, more_than: int) -> None:
        """Wait until more attempts than these were not told their outcome."""

        async def unheard() -> bool:
            return self.unknown > more_than

        await until(unheard, within_s=15, what="a voter does not know")

    async def until_told(
        self,
        code: str,
        *,
        times: int = 1,
        apis: Sequence[int] = (0, 1),
        since_s: float | None = None,
        within_s: float = 15.0,
    ) -> None:
        """Wait until what is asked from now on was refused with this code, so often by each of these API processes."""
        began_s = time.monotonic() if since_s is None else since_s

        async def told() -> bool:
            codes = Counter(a.api for a in self.since(began_s) if a.code == code)
            return all(codes[api] >= times for api in apis)

        await until(told, within_s=within_s, what=f"voters are told {code} by API processes {apis}")

    def answered(self, *, since_s: float = 0.0, api: int | None = None) -> int:
        """Answers of 200 to what was asked after an instant, of one API process or all."""
        return sum(a.heard is Heard.ok and a.asked_s >= since_s and api in (None, a.api) for a in self.attempts)

    async def serving_again(self, healed_s: float, *, apis: Sequence[int], within_s: float) -> float:
        """Seconds from the heal until each of these API processes, and each shard, has answered later requests."""
        shards = self.document.rules.shards
        wanted = {f"api {api}" for api in apis} | {f"shard {shard}" for shard in range(shards)}
        first: dict[str, float] = {}

        async def served() -> bool:
            for a in self.attempts:
                if a.heard is Heard.ok and a.asked_s >= healed_s:
                    for served in (f"api {a.api}", f"shard {wire.shard_of(a.voter, shards)}"):
                        first.setdefault(served, a.heard_s)
            return wanted <= first.keys()

        await until(served, within_s=within_s, what="every API process and every shard serves again")
        return max(first[each] for each in wanted) - healed_s

    async def resolve(self, *, within_s: float = 60.0) -> None:
        """Ask again for everything unknown until each like has an answer, or the campaign is over."""
        deadline = time.monotonic() + within_s
        while (left := unresolved(self.attempts)) and not self._over:
            assert time.monotonic() < deadline, f"{len(left)} likes are still unknown after {within_s} s"
            by_voter: dict[bytes, list[str]] = {}
            for code, voter in sorted(left):
                by_voter.setdefault(voter, []).append(code)
            waiting = list(by_voter.items())
            await asyncio.gather(*(self._resolve(waiting) for _ in range(RESOLVING)))

    async def _resolve(self, waiting: list[tuple[bytes, list[str]]]) -> None:
        with self._connected() as connections:
            while waiting and not self._over:
                voter, codes = waiting.pop()
                attempt = await self.ask(connections, 0, voter, codes[: self._quota])
                if attempt.heard is not Heard.ok:
                    await asyncio.sleep(0.1)  # as a voter's phone waits

    @property
    def _over(self) -> bool:
        return self.attempts[-1].code == "closed"

    async def ask(self, connections: Sequence[Connection], api: int, voter: bytes, codes: Sequence[str]) -> Attempt:
        """One attempt, noted before and after."""
        attempt = await self.journal.ask(voter, codes, api)
        token = self._token(voter)
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                status, body = await connections[api].ask("POST", self._path, token=token, body={"candidates": codes})
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.journal.hear(attempt, Heard.unknown, code=type(error).__name__)
            return attempt
        if status == 200:
            results = {r["candidate"]: (r["status"], r.get("receipt")) for r in body["results"]}
            self.journal.hear(attempt, Heard.ok, results=results)
        elif status < 500 or body["code"] in REFUSALS:
            self.journal.hear(attempt, Heard.fail, code=body["code"])
        else:
            self.journal.hear(attempt, Heard.unknown, code=body["code"])
        told_when = status < 500 or "retry-after" in connections[api].headers
        assert told_when, f"attempt {attempt.number}: {status} {attempt.code} does not say when to ask again"
        return attempt

    @property
    def _path(self) -> str:
        return f"/v1/campaigns/{self.document.rules.id}/likes"

    def _token(self, voter: bytes) -> str:
        return self.document.key.token(Voter(voter, VoterClass.device, 0), 2**31)

    @property
    def acknowledged(self) -> int:
        """Likes that were answered counted or already liked."""
        return len(acknowledged(self.attempts))

    @property
    def unknown(self) -> int:
        """Attempts whose outcome was not told."""
        return sum(a.heard is Heard.unknown for a in self.attempts)

    # ---- one voter after another ------------------------------------------------------------------------------------

    async def _work(self, rng: random.Random) -> None:
        await asyncio.sleep(rng.random() * self._pause_s)
        with self._connected() as connections:
            while not self._stopping:
                await self._going.wait()
                began_s = time.monotonic()
                voter, codes, api = self._choose(rng)
                await self.ask(connections, api, voter, codes)
                await asyncio.sleep(max(0.0, self._pause_s - (time.monotonic() - began_s)))

    @contextmanager
    def _connected(self) -> Iterator[list[Connection]]:
        """Connections of one voter, to each API process."""
        connections = [Connection(port) for port in self._ports]
        try:
            yield connections
        finally:
            for connection in connections:
                connection.close()

    def _choose(self, rng: random.Random) -> tuple[bytes, tuple[str, ...], int]:
        api = rng.randrange(len(self._ports))
        if self._asked and rng.random() < REPEATS + ELSEWHERE:
            voter, codes = rng.choice(self._asked[-500:])  # of late: a repeat meets a like that is still on its way
            return voter, codes, api
        known = self.voter_count
        subject = rng.randbytes(8) if known is None else rng.randrange(known).to_bytes(8, "big")
        voter = self.document.key.voter_hash("device", subject)
        wanted = min(len(self.document.candidates), rng.randint(1, self._quota + 1))
        codes = tuple(rng.sample(self.document.candidates, min(wanted, self._quota)))
        if self.favourite is not None and self.favourite not in codes:
            codes = (self.favourite, *codes[1:])
        self._asked.append((voter, codes))
        return voter, codes, api
