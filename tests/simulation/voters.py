"""Voters, and the journal of everything they asked and were told: the truth that a history is checked against."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from dianzan.domain.voters import Voter, VoterClass

if TYPE_CHECKING:
    from tests.simulation.world import World

CLIENT_TIMEOUT_S = 2.0
ASKED_AGAIN_MAX = 40  # after all faults are over; each takes at least half a second
# Codes of answers after which nothing was counted; any other error leaves it unknown.
NOTHING_COUNTED = frozenset(
    {
        "closed",
        "store_unsafe",
        "overloaded",
        "store_full",
        "clock_skewed",
        "rules_moved",
        "not_open",
        "unavailable",
        "campaign_unknown",
    }
)


@dataclass(slots=True)
class Attempt:
    """One request and its answer: `ok` with a status per candidate, `nothing` counted, or `unknown`."""

    voter: bytes
    candidates: list[int]
    began_s: float
    ended_s: float = 0.0
    outcome: str = "unknown"
    code: str = ""
    statuses: dict[int, str] = field(default_factory=dict)
    receipts: dict[int, str | None] = field(default_factory=dict)
    remaining: int = 0
    resets_at: str = ""


class Voters:
    """All voters of a history; each asks, and asks again, through any vote API."""

    def __init__(self, world: World) -> None:
        self._world, self._rng = world, world.rng
        self.journal: list[Attempt] = []
        key = world.plan.document.key
        self._hashes = [blake2b(b"voter %d" % n, digest_size=16).digest() for n in range(world.plan.voters)]
        made_s = world.plan.epoch_ms // 1000 + 1_000_000
        self._headers = [
            {
                b"content-type": b"application/json",
                b"authorization": b"Bearer " + key.token(Voter(hashed, VoterClass.device, 0), made_s).encode(),
            }
            for hashed in self._hashes
        ]

    async def vote(self, number: int) -> None:
        """One voter's attempts during the faults."""
        plan, rng = self._world.plan, self._rng
        for _ in range(plan.attempts):
            await asyncio.sleep(rng.random() * 1.6 * plan.fault_s / plan.attempts)
            wanted = rng.sample(range(1, plan.candidates + 1), rng.randint(1, min(plan.quota, plan.candidates)))
            if rng.random() < 0.15:
                await asyncio.gather(self.ask(number, wanted), self.ask(number, wanted))
                continue
            attempt = await self.ask(number, wanted)
            if rng.random() < (0.5 if attempt.outcome == "unknown" else 0.15):
                await self.ask(number, wanted)

    async def ask(self, number: int, wanted: list[int]) -> Attempt:
        """Ask one vote API once."""
        world, rng = self._world, self._rng
        attempt = Attempt(self._hashes[number], wanted, world.loop.time())
        self.journal.append(attempt)
        api = rng.choice(world.apis)
        codes = ",".join(f'"c{n}"' for n in wanted)
        body = f'{{"candidates":[{codes}]}}'.encode()
        hangs_up_s = 0.005 * rng.random() if world.faulty and rng.random() < 0.05 else 0.0
        link, headers = world.network.link("voters", api), self._headers[number]
        try:
            async with asyncio.timeout(hangs_up_s or CLIENT_TIMEOUT_S):
                status, reply = await world.network.ask(
                    link,
                    lambda answer: world.running[api].receive(headers, body, answer),
                    timeout_s=CLIENT_TIMEOUT_S,
                    lost=ConnectionError,
                )
        except OSError as error:
            attempt.code = type(error).__name__
        else:
            _read(attempt, status, msgspec.json.decode(reply))
        attempt.ended_s = world.loop.time()
        world.note("asked", api, number, wanted, attempt.outcome, attempt.code or "".join(attempt.statuses.values()))
        return attempt

    async def resolve(self) -> None:
        """When the faults are over: ask again for most unknown likes; the others' voters are gone for good."""
        settled: set[tuple[bytes, tuple[int, ...]]] = set()
        for attempt in list(self.journal):
            key = attempt.voter, tuple(attempt.candidates)
            if attempt.outcome == "unknown" and key not in settled and self._rng.random() < 0.6:
                settled.add(key)
                await self._settle(self._hashes.index(attempt.voter), attempt.candidates)

    async def _settle(self, number: int, wanted: list[int]) -> None:
        for _ in range(ASKED_AGAIN_MAX):
            attempt = await self.ask(number, wanted)
            if attempt.outcome == "ok" or attempt.code == "closed":
                return
            await asyncio.sleep(0.5)
        self._world.failures.append(f"not serving again: {attempt.code} long after the faults")


def _read(attempt: Attempt, status: int, answer: Any) -> None:
    if status != 200:
        attempt.code = answer["code"]
        attempt.outcome = "nothing" if attempt.code in NOTHING_COUNTED else "unknown"
        return
    attempt.outcome = "ok"
    attempt.remaining, attempt.resets_at = answer["remaining"], answer["resets_at"]
    for result in answer["results"]:
        candidate = int(result["candidate"][1:])
        attempt.statuses[candidate] = result["status"]
        attempt.receipts[candidate] = result.get("receipt")
