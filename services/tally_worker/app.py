"""The composition root of the tally worker: the only place that builds its clients and tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI

from dianzan.ledger.ledger import Ledger
from dianzan.life.restore import Restorer
from dianzan.process import background, faults, metrics
from dianzan.store.nodes import connect
from dianzan.store.store import Store
from tally_worker import operations
from tally_worker.bucket_fill import BucketSampler
from tally_worker.comparison import Comparison, Reconciler
from tally_worker.flush import Consumer
from tally_worker.flush_loop import FlushLoop
from tally_worker.sealed_campaigns import SealedCampaigns
from tally_worker.settings import WorkerSettings
from tally_worker.state import WorkerState
from tally_worker.sweep import Sweeper


def create_app(settings: WorkerSettings) -> FastAPI:
    """The ASGI application that flushes as long as it runs, and serves health and metrics."""
    faults.arm(settings.faults)
    app = FastAPI(
        title="dianzan tally worker",
        version="1",
        lifespan=lambda _app: _running(settings),
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(operations.router)
    return app


@asynccontextmanager
async def _running(settings: WorkerSettings) -> AsyncIterator[WorkerState]:
    """Open everything in order; close it in reverse when the server stops: the last flush ends before all else."""
    async with AsyncExitStack() as opened:
        for gauge in (metrics.ROUND_TIMESTAMP, metrics.RECONCILED_TIMESTAMP):
            gauge.set_to_current_time()  # or the alert would speak of a round in 1970
        ledger = await Ledger.connect(settings.database_url)
        opened.push_async_callback(ledger.aclose)
        store = Store(connect(settings.redis_url, replicated=settings.store_mode == "replicated"))
        opened.push_async_callback(store.aclose)
        consumer = Consumer(store, ledger, keep_s=settings.keep_committed_s)
        loop = FlushLoop(consumer, ledger, store, flush_every_s=settings.flush_every_s)
        reconciler = Reconciler(store, ledger, Comparison(store, ledger, consumer), Restorer(store, ledger))
        for name, work in (
            ("sweep", Sweeper(store, ledger).run()),
            ("reconcile", reconciler.run(loop.disturbed)),
            ("bucket fill", BucketSampler(store, ledger).run()),
            ("sealed campaigns", SealedCampaigns(ledger).run()),
        ):
            opened.push_async_callback(background.stop, background.spawn(name, work))
        opened.push_async_callback(_finish, loop, background.spawn("flush", loop.run()))
        yield {"loop": loop}


async def _finish(loop: FlushLoop, flushing: asyncio.Task[None]) -> None:
    loop.stop()
    await flushing
