"""The composition root of the tally worker: the only place that builds its clients and tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from dianzan.ledger.ledger import Ledger
from dianzan.life.restore import Restorer
from dianzan.process import background, faults
from dianzan.store.nodes import connect
from dianzan.store.store import Store
from tally_worker.bucket_fill import BucketGauge
from tally_worker.comparison import Comparison, Reconciler
from tally_worker.flush import Consumer
from tally_worker.flush_loop import FlushLoop
from tally_worker.operations import router
from tally_worker.settings import WorkerSettings
from tally_worker.sweep import Sweeper


def create_app(settings: WorkerSettings) -> FastAPI:
    """The ASGI application that flushes as long as it runs, and serves health and metrics."""

    faults.arm(settings.faults)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ledger = await Ledger.connect(settings.database_url)
        store = Store(connect(settings.redis_url, replicated=settings.store_mode == "replicated"))
        consumer = Consumer(store, ledger, keep_s=settings.keep_committed_s)
        loop = FlushLoop(consumer, ledger, store, flush_every_s=settings.flush_every_s)
        app.state.loop = loop
        flushing = background.spawn("flush", loop.run())
        sweeping = background.spawn("sweep", Sweeper(store, ledger).run())
        comparison = Comparison(store, ledger, consumer)
        reconciler = Reconciler(store, ledger, comparison, Restorer(store, ledger))
        reconciling = background.spawn("reconcile", reconciler.run(loop.disturbed))
        sampling = background.spawn("gauge", BucketGauge(store, ledger).run())
        yield
        loop.stop()
        await flushing
        await background.stop(sampling)
        await background.stop(reconciling)
        await background.stop(sweeping)
        await store.aclose()
        await ledger.aclose()

    app = FastAPI(title="dianzan tally worker", version="1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(router)
    return app
