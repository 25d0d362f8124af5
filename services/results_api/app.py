"""The composition root of the results API: the only place that builds its clients and tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from dianzan.domain.errors import ApiError
from dianzan.domain.limits import STREAMS_MAX
from dianzan.http import problem
from dianzan.http.asgi import App
from dianzan.http.headers import Strict
from dianzan.ledger.ledger import Ledger
from dianzan.process import background, machine
from dianzan.process.settings import AddressesIn
from results_api import operations, pages
from results_api.openapi import describe
from results_api.reads import ReadRoutes
from results_api.settings import ResultsSettings
from results_api.state import ResultsState
from results_api.streams import Streams
from results_api.view import Snapshots


def create_app(settings: ResultsSettings) -> App:
    """The ASGI application; it reads Postgres only, four times a second, however many readers there are.

    From the outside in: what the public reads, then FastAPI, whose own layers cost a reader more than all else.
    """
    # /docs without a CDN, which readers in China may not reach.
    app = (FastAPIOffline if settings.docs else partial(FastAPI, docs_url=None, redoc_url=None, openapi_url=None))(
        redirect_slashes=False,  # a redirect would be made from the Host that the client sent
        title="dianzan results API",
        version="1",
        description="Serves the counts. Likes and people are final once `sealed` is true.",
        lifespan=lambda _app: _running(settings),
    )
    app.include_router(operations.router)
    pages.mount(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET"],
        allow_headers=["*"],
        expose_headers=["date", "etag", "retry-after"],
    )
    of_programs = problem.handler(Response)
    for kind, handler in (
        (ApiError, of_programs),
        (RequestValidationError, of_programs),
        (HTTPException, pages.or_no_page(of_programs)),
    ):
        app.add_exception_handler(kind, handler)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    return Strict(ReadRoutes(app))


@asynccontextmanager
async def _running(settings: ResultsSettings) -> AsyncIterator[ResultsState]:
    """Open everything in order; close it in reverse when the server stops."""
    async with AsyncExitStack() as opened:
        readers_max = min(STREAMS_MAX, machine.raise_open_files())
        ledger = await Ledger.connect(settings.database_url, connections_max=2)
        opened.push_async_callback(ledger.aclose)
        snapshots = Snapshots(ledger)
        streams = Streams(snapshots.event, readers_max=readers_max, proxies=AddressesIn(settings.trusted_proxies))
        opened.push_async_callback(background.stop, background.spawn("snapshots", snapshots.run(streams.tell)))
        opened.push_async_callback(background.stop, background.spawn("streams", streams.run()))
        machine.calm_collector()
        yield {"settings": settings, "snapshots": snapshots, "streams": streams, "draining": False}
