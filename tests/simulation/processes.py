"""The processes of the system, put together from production code as their app.py does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from dianzan.domain.errors import ApiError, CampaignError, LedgerAway, StoreError
from dianzan.domain.shard import Shard
from dianzan.ledger.ledger import Ledger
from dianzan.life.lifecycle import Lifecycle
from dianzan.life.restore import Restorer
from dianzan.life.seal import Sealer
from dianzan.store.store import Store
from dianzan.store.streams import RawEntry, Streams
from tally_worker.comparison import Comparison, Reconciler
from tally_worker.flush import Consumer
from tally_worker.flush_loop import FlushLoop
from tests.simulation.ledger_client import SimLedger
from tests.simulation.loop import Process
from tests.simulation.network import Answer
from tests.simulation.plan import CAMPAIGN
from tests.simulation.store_client import SimNodes
from vote_api.likes.batchers import Batchers
from vote_api.likes.path import LikeRequest, Likes
from vote_api.store.watch import StoreWatch

if TYPE_CHECKING:
    from tests.simulation.world import World

DRAIN_S = 3.0  # a seal or restore that waits longer is run again
FLUSH_EVERY_S = 0.4


class Running:
    """One incarnation of a process."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.process = Process(name, world.loop, clock_ms=world.clocks_ms.get(name, 0))
        world.processes.append(self.process)
        self.stopping = False

    def stop(self) -> None:
        """As SIGTERM does: end in order."""
        self.stopping = True

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.world.died(f"{self.process.name}: {task.exception()!r}")

    def nodes(self, *, replicated: bool) -> Any:
        """Its way to the store."""
        return SimNodes(self.world.cluster, self.process.name, replicated=replicated and self.world.plan.replicated)

    def ledger(self) -> Ledger:
        """Its way to the ledger."""
        world = self.world
        return cast("Ledger", SimLedger(world.ledger, world.loop, world.network, self.process, world.rng))


class Api(Running):
    """A vote API: everything behind the like route."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._likes: Likes | None = None
        self._batchers: Batchers | None = None
        self.process.spawn(self._serve())

    async def _serve(self) -> None:
        nodes = self.nodes(replicated="no-wait" not in self.world.broken)
        watch = StoreWatch(nodes, allow_weak_store=False, backlog_bytes_max=1 << 40)
        self._batchers = Batchers(nodes, watch)
        await watch.refresh()
        self._likes = Likes(watch=watch, batchers=self._batchers, marks=Store(nodes).marks)
        await watch.run()

    def receive(self, headers: dict[bytes, bytes], body: bytes, answer: Answer) -> None:
        """Take one request; `answer` gets status and body, or ConnectionError."""
        if not self.process.alive or self._likes is None:
            answer(ConnectionRefusedError("the vote API is down"))
            return
        self.process.on_kill.append(lambda: answer(ConnectionResetError("the vote API has died")))
        self.process.spawn(self._ask(self._likes, headers, body, answer))

    async def _ask(self, likes: Likes, headers: dict[bytes, bytes], body: bytes, answer: Answer) -> None:
        def reply(status: int, _head: bytes, content: bytes) -> None:
            answer((status, content))

        likes.ask(LikeRequest(b"POST", CAMPAIGN, headers, body, client="10.1.2.3", reply=reply))

    def stop(self) -> None:
        """Answer what was accepted, then end."""
        super().stop()
        self.process.spawn(self._stop())

    async def _stop(self) -> None:
        if self._likes is not None and self._batchers is not None:
            await self._likes.aclose()
            await self._batchers.aclose()
            await asyncio.sleep(0.01)
        self.process.kill()


class Worker(Running):
    """A tally worker."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        store, ledger = Store(self.nodes(replicated="unconfirmed-reads" not in world.broken)), self.ledger()
        if "remove-before-commit" in world.broken:
            store.streams = RemovesBeforeCommit(store._calls)
        consumer = Consumer(store, ledger, keep_s=0 if "keeps-nothing" in world.broken else world.plan.keep_s)
        self.loop = FlushLoop(consumer, ledger, store, flush_every_s=FLUSH_EVERY_S)
        comparison = Comparison(store, ledger, consumer)
        reconciler = Reconciler(store, ledger, comparison, Restorer(store, ledger))
        self.process.spawn(reconciler.run(self.loop.disturbed)).add_done_callback(self._ended)
        self.process.spawn(self.loop.run()).add_done_callback(self._ended)

    def stop(self) -> None:
        """End after this flush."""
        super().stop()
        self.loop.stop()


class Operator(Running):
    """A command of `dianzan`, run once; the one who runs it looks at `done`."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.done: Any = None
        self.failed = ""
        self.ended = asyncio.Event()  # well, badly or killed
        self.process.on_kill.append(self.ended.set)
        self.process.spawn(self._run(name)).add_done_callback(self._ended)

    async def _run(self, name: str) -> None:
        store, ledger = Store(self.nodes(replicated=True)), self.ledger()
        try:
            if name == "seal":
                sealer = Sealer(store, ledger, Lifecycle(store, ledger))
                self.done = await sealer.seal(CAMPAIGN, drain_s_max=DRAIN_S)
            else:
                self.done = await Restorer(store, ledger).restore(CAMPAIGN, drain_s_max=DRAIN_S)
        except (LedgerAway, CampaignError, StoreError, ApiError) as error:
            self.failed = f"{type(error).__name__}: {error}"
        finally:
            self.ended.set()
        self.world.note(name, self.failed or "done")


class RemovesBeforeCommit(Streams):
    """The control whose entries leave the stream as soon as they are read."""

    async def read(self, shard: Shard, count: int, *, after: bytes | None = None) -> list[RawEntry]:
        """Read, and remove before anything is committed."""
        entries = await super().read(shard, count, after=after)
        await self.remove(shard, [(entry_id, fields[b"b"]) for entry_id, fields in entries])
        return entries
