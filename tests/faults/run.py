"""One cycle of a scenario: voters at work, a fault, a heal, the rest, and the checker's verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from dianzan.domain.campaign import Document
from dianzan.domain.errors import DianzanError
from dianzan.ledger.records import StoredCampaign
from tests.faults.checker import Violation, check
from tests.faults.load import Load
from tests.faults.world import World
from tests.support.wait import until

SERVING_S_MAX = 10.0
READ_EVERY_S = 0.25


@dataclass
class Run:
    """What a scenario works with. It injects its fault while voters are at work, and says when all is healed."""

    world: World
    document: Document
    load: Load
    rng: random.Random
    serving_s_max: float = SERVING_S_MAX
    healed_s: float | None = None
    sealed_s: float | None = None
    apis_healed: list[int] = field(default_factory=lambda: [0, 1])
    undurable: list[tuple[float, float]] = field(default_factory=list)
    lacking: list[tuple[float, float]] = field(default_factory=list)
    published: list[tuple[float, Mapping[str, int]]] = field(default_factory=list)
    record: list[tuple[str, str]] | None = None

    @property
    def campaign(self) -> str:
        return self.document.rules.id

    async def stored(self) -> StoredCampaign:
        """The campaign as the ledger has it."""
        return await self.world.stores.lifecycle.stored(self.campaign)

    async def flushed(self) -> int:
        """Likes that the ledger counts now."""
        return sum((await self.world.stores.ledger.recounts.counts(await self.stored())).values())

    async def until_flushed(self, more_than: int, *, what: str) -> None:
        """Wait until the ledger counts more likes than these."""

        async def grown() -> bool:
            return await self.flushed() > more_than

        await until(grown, within_s=15, what=what)

    def healed(self, *apis: int) -> None:
        """From now on every API process (or those named) must serve again within `serving_s_max`."""
        self.healed_s = time.monotonic()
        self.apis_healed = list(apis) or [0, 1]

    @contextmanager
    def nothing_durable(self) -> Iterator[None]:
        """No 200 may be given to what is asked and answered inside the block."""
        began_s = time.monotonic()
        yield
        self.undurable.append((began_s, time.monotonic()))

    @asynccontextmanager
    async def ledger_lacks(self) -> AsyncIterator[None]:
        """Likes are taken from the ledger inside the block, which ends when all are published again."""
        began_s, (_read_s, before) = time.monotonic(), self.published[-1]
        yield
        seen = len(self.published)

        async def whole() -> bool:
            return any(all(found[code] >= before[code] for code in before) for _, found in self.published[seen:])

        await until(whole, within_s=30, what="what the ledger had lost is published again")
        self.lacking.append((began_s, time.monotonic()))


@dataclass(frozen=True)
class Outcome:
    """What one cycle has shown; times in seconds."""

    acknowledged: int
    unknown: int
    serving_s: float | None
    violations: list[Violation]


Fault = Callable[[Run], Awaitable[None]]


async def run_cycle(world: World, fault: Fault, rng: random.Random, *, likes: int, **campaign: object) -> Outcome:
    """Run one cycle in a campaign of its own. What goes wrong outside the promises is raised."""
    document = await world.new_campaign(**campaign)
    journal = world.folder / f"{document.rules.id}.journal"
    load = Load(document, world.voter_ports, journal, rng)
    run = Run(world, document, load, rng)
    serving_s = None
    async with _reader(run):
        async with load.running():
            await load.until_liked(likes // 2)
            await fault(run)
            if run.healed_s is not None:
                serving_s = await load.serving_again(run.healed_s, apis=run.apis_healed, within_s=60.0)
                await load.until_liked(likes // 2)
        await load.resolve()
        await world.at_rest(document)
    load.journal.close()
    truth = await world.truth(document, run.published)
    truth.sealed_s, truth.undurable, truth.record = run.sealed_s, run.undurable, run.record
    truth.lacking = run.lacking
    violations = check(load.journal.attempts, truth)
    if serving_s is not None and serving_s > run.serving_s_max:
        violations.append(Violation("slow", f"serving again took {serving_s:.1f} s of {run.serving_s_max:.0f}"))
    if not violations:
        journal.unlink()
        with suppress(DianzanError):  # it would only stay published, and cost the workers of later cycles a look
            await world.stores.sealer.seal(document.rules.id, drain_s_max=1)
    return Outcome(load.acknowledged, load.unknown, serving_s, violations)


@asynccontextmanager
async def _reader(run: Run) -> AsyncIterator[None]:
    """Reads what is published, all the time."""

    async def read() -> None:
        while True:
            try:
                found = await run.world.published(run.campaign)
                run.published.append((time.monotonic(), found))
            except (OSError, EOFError):
                pass  # the results API may be the one that is down
            await asyncio.sleep(READ_EVERY_S)

    task = asyncio.create_task(read())
    try:
        yield
    finally:
        task.cancel()
        [ended] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended  # else a reader that died early would have seen no number fall
