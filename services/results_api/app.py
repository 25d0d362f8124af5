"""The composition root of the results API: the only place that builds its clients and tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from dianzan.domain.errors import ApiError
from dianzan.http import problem
from dianzan.ledger.ledger import Ledger
from dianzan.process import background, machine
from results_api import pages
from results_api.openapi import describe
from results_api.reads import ReadRoutes
from results_api.routes import router
from results_api.settings import ResultsSettings
from results_api.streams import Streams
from results_api.view import Snapshots


def create_app(settings: ResultsSettings, *, streams_max: int) -> ReadRoutes:
    """The ASGI application; it reads Postgres only, four times a second, however many readers there are.

    From the outside in: what the public reads, then FastAPI, whose own layers cost a reader more than all else.
    """

    def snapshots() -> Snapshots:  # there is none before the lifespan has begun, nor any request
        found: Snapshots = app.state.snapshots
        return found

    streams = Streams(lambda campaign: snapshots().of(campaign).event, readers_max=streams_max)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ledger = await Ledger.connect(settings.database_url, connections_max=2)
        app.state.snapshots = Snapshots(ledger, streams.tell)
        reading = background.spawn("snapshots", app.state.snapshots.run())
        telling = background.spawn("streams", streams.run())
        machine.calm_collector()
        yield
        await background.stop(telling)
        await background.stop(reading)
        await ledger.aclose()

    app = FastAPIOffline(  # /docs without a CDN, which readers in China may not reach
        title="dianzan results API",
        version="1",
        description="Serves the counts. Likes and people are final once `sealed` is true.",
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.include_router(router)
    pages.mount(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET"],
        allow_headers=["*"],
        expose_headers=["etag", "retry-after"],
    )
    for kind in (ApiError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _on_error)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    return ReadRoutes(app, snapshots=snapshots, streams=streams)


async def _on_error(_request: Request, raised: Exception) -> Response:
    error = problem.translate(raised)
    return Response(problem.body(error), error.status, headers=problem.headers(error), media_type=problem.MEDIA_TYPE)
