"""The composition root of the results API: the only place that builds its clients and tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from dianzan import background, problem
from dianzan.errors import ApiError
from dianzan.ledger import Ledger
from results_api import pages
from results_api.changes import Changes
from results_api.routes import router
from results_api.settings import ResultsSettings
from results_api.snapshot import Snapshots


def create_app(settings: ResultsSettings) -> FastAPI:
    """The ASGI application; it reads Postgres only, twice a second, however many readers there are."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ledger = await Ledger.connect(settings.database_url, connections_max=2)
        app.state.snapshots = Snapshots(ledger, app.state.changes)
        reading = background.spawn("snapshots", app.state.snapshots.run())
        yield
        await background.stop(reading)
        await ledger.aclose()

    app = FastAPIOffline(  # /docs without a CDN, which readers in China may not reach
        title="dianzan results API",
        version="1",
        description="Serves the counts. Likes and people are final once `sealed` is true.",
        lifespan=lifespan,
    )
    app.state.settings, app.state.streams, app.state.changes = settings, 0, Changes()
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
    return app


async def _on_error(_request: Request, raised: Exception) -> Response:
    error = problem.translate(raised)
    return Response(problem.body(error), error.status, headers=problem.headers(error), media_type=problem.MEDIA_TYPE)
