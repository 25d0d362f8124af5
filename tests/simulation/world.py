"""One history: its servers, processes and voters, the faults they live through, and the rest it must come to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from hashlib import blake2b
from random import Random
from typing import Any

from dianzan.domain.shard import Shard
from dianzan.store import keys
from tests.simulation import faults, plan
from tests.simulation.ledger_server import Identity, LedgerServer
from tests.simulation.loop import Process, SimLoop
from tests.simulation.network import Network
from tests.simulation.patches import simulated
from tests.simulation.plan import CAMPAIGN
from tests.simulation.processes import Api, Operator, Running, Worker
from tests.simulation.store_cluster import Cluster
from tests.simulation.voters import Voters

REST_S_MAX = 90.0  # virtual seconds after the faults, by which everything is at rest
OPERATOR_TRIES_MAX = 40


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, *, broken: Collection[str] = (), replicated: bool = False) -> None:
        """`broken`: controls, whose histories must fail. `replicated`: see plan.draw."""
        self.broken = frozenset(broken)
        self.rng = Random(seed)
        self.plan = plan.draw(self.rng, replicated=replicated)
        self.loop = SimLoop(self.rng, epoch_ms=self.plan.epoch_ms)
        self.network = Network(self.loop, self.rng)
        self.cluster = Cluster(
            self.loop,
            self.network,
            self.rng,
            begin=self.plan.records(),
            replicated=self.plan.replicated,
            broken=self.broken,
        )
        for server in self.cluster.servers.values():
            server.waitaof = self.plan.waitaof
            server.note = self.note
        self.ledger = LedgerServer(self.loop, self.plan.stored, broken=self.broken)
        self.ledger.note = self.note
        self.ledger.candidates = self.plan.roster
        self.apis = [f"api{n}" for n in range(self.plan.apis)]
        self.workers = [f"worker{n}" for n in range(self.plan.workers)]
        self.processes: list[Process] = []
        self.running: dict[str, Any] = {}
        self.clocks_ms: dict[str, int] = {}
        self.faulty = True
        self.events: list[tuple[Any, ...]] = []
        self.failures: list[str] = []
        self.lost_with_the_store: set[Identity] = set()
        self.sealed_s: float | None = None
        self.voters = Voters(self)

    def note(self, *event: Any) -> None:
        """Add to the history."""
        self.events.append((round(self.loop.time(), 6), self.loop.running.name, *event))

    def died(self, what: str = "a background task died") -> None:
        """A process ended by an error of its own: no fault explains that."""
        self.failures.append(f"died by itself: {what}")

    @property
    def digest(self) -> str:
        """The hash of the whole history."""
        return blake2b(repr(self.events).encode(), digest_size=16).hexdigest()

    # ---- the history ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Live through it; `failures` tells what was wrong on the way."""
        with simulated(self.loop, self.rng, self.note, self.died):
            try:
                self.loop.run(self._live())
            except Exception as error:  # noqa: BLE001 whatever it is, it is this history's failure
                self.failures.append(f"{type(error).__name__}: {error}")
            finally:
                for process in [*self.processes, self.loop.world]:
                    process.dispose()
        self.failures += self.loop.errors

    async def _live(self) -> None:
        for name in self.apis + self.workers:
            self.start(name)
        spawn = self.loop.world.spawn
        voting = [spawn(self.voters.vote(number)) for number in range(self.plan.voters)]
        tearing = spawn(faults.tear(self))
        sealing = spawn(self._seal(self.rng.random() * self.plan.fault_s)) if self.plan.seal == "during" else None
        if self.plan.loses_store:
            await self._lose_store()
        if self.plan.ledger_older:
            await self._ledger_older()
        await tearing
        self.faulty = False
        await asyncio.gather(*voting)
        await self.voters.resolve()
        if self.plan.seal == "after":
            sealing = spawn(self._seal(0.0))
        if sealing is not None:
            await sealing
            await self._vote_after_the_seal()
        await self._rest()

    def start(self, name: str) -> None:
        """Start a process unless it runs; one that was told to stop is given no more time."""
        running = self.running.get(name)
        if running is not None and running.stopping:
            running.process.kill()
        if running is None or not running.process.alive:
            kind: Callable[[World, str], Running] = Api if name.startswith("api") else Worker
            self.running[name] = kind(self, name)
            self.note("start", name)

    async def _seal(self, delay_s: float) -> None:
        """Seal, and again until it is done; then sometimes once more, which must give the same."""
        await asyncio.sleep(delay_s)
        first = await self._operate("seal")
        self.sealed_s = self.loop.time()
        if self.rng.random() < 0.7:
            return
        again = await self._operate("seal")
        if first is not None and again is not None and first[1].tallies != again[1].tallies:
            self.failures.append("a seal that was run again gives another tally")

    async def _operate(self, command: str) -> Any:
        """Run a command until it succeeds; the result."""
        operator = None
        for _ in range(OPERATOR_TRIES_MAX):
            operator = self.running[command] = Operator(self, command)
            await operator.ended.wait()
            if operator.done is not None:
                return operator.done
            await asyncio.sleep(0.5)
        self.failures.append(f"{command} did not succeed: {operator.failed if operator else ''}")
        return None

    async def _lose_store(self) -> None:
        """Lose a part of the store, disks and all, and restore it from the ledger."""
        await asyncio.sleep(self.rng.random() * self.plan.fault_s)
        if self.rng.random() < 0.5:  # in the middle of a flush, which then takes its time to commit
            for name in self.workers:
                self.network.link(name, "ledger").slow_s = 0.2
            for _ in range(200):
                if self.ledger.flushing:
                    break
                await asyncio.sleep(0.005)
        self._lose(self.rng.randrange(len(self.cluster.places)))
        await self._operate("restore")

    async def _ledger_older(self) -> None:
        """The ledger fails over to a standby that lags."""
        await asyncio.sleep(self.rng.random() * self.plan.fault_s)
        self.ledger.come_back_older(self.loop.time() - self.rng.random() * plan.LAG_S_MAX)
        await asyncio.sleep(0.3 * self.rng.random())
        self.ledger.up = True

    def _lose(self, place: int) -> None:
        for shard in range(self.plan.shards):
            if self.cluster.place_of(keys.gate(Shard(CAMPAIGN, shard))) == place:
                self.lost_with_the_store |= self._only_in_store(shard)
        self.note("lose", place)
        self.cluster.places[place].lose()

    def _only_in_store(self, shard: int) -> set[Identity]:
        stream = keys.stream(Shard(CAMPAIGN, shard))
        found = {like for server in self.cluster.servers_of(stream) for like in server.waiting(stream.encode())}
        return found - self.ledger.rows.keys()

    async def _vote_after_the_seal(self) -> None:
        """Everybody tries again: nothing may be counted any more."""
        for number in range(self.plan.voters):
            await self.voters.ask(number, [1])

    async def _rest(self) -> None:
        """Wait until nothing is under way and the streams are empty."""
        deadline = self.loop.time() + REST_S_MAX
        while self.loop.time() < self.network.last_arrival_s or not self._at_rest():
            if self.loop.time() > deadline:
                self.failures.append("never at rest after the faults")
                return
            await asyncio.sleep(0.1)

    def store_counts(self) -> dict[int, int]:
        """Likes per candidate by the store's counters."""
        store: Counter[int] = Counter()
        for shard in range(self.plan.shards):
            found = self.cluster.value(keys.counts(Shard(CAMPAIGN, shard))) or {}
            store.update({int(candidate): int(likes) for candidate, likes in found.items()})
        return dict(store)

    def _at_rest(self) -> bool:
        streams = [self.cluster.value(keys.stream(Shard(CAMPAIGN, shard))) for shard in range(self.plan.shards)]
        whole = not self.plan.ledger_older or sum(self.store_counts().values()) == len(self.ledger.rows)
        return whole and not any(stream and stream.entries for stream in streams) and not self.ledger.busy


def simulate(seed: int, *, broken: Collection[str] = (), replicated: bool = False) -> World:
    """Run one seed's history."""
    world = World(seed, broken=broken, replicated=replicated)
    world.run()
    return world
