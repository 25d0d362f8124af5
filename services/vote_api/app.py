"""The composition root of the vote API: the only place that builds its clients and tasks."""

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
from dianzan.process import background, faults, machine
from dianzan.store.nodes import connect
from dianzan.store.store import Store
from vote_api.likes.batchers import Batchers
from vote_api.likes.body import ClientGone
from vote_api.likes.path import Likes
from vote_api.openapi import describe
from vote_api.routes import router
from vote_api.settings import VoteSettings
from vote_api.store.promise_header import App, PromiseHeader
from vote_api.store.watch import StoreWatch


def create_app(settings: VoteSettings) -> App:
    """The ASGI application; connections are opened when it starts and closed, in reverse order, when it stops.

    Likes do not come this far: `LikeProtocol` answers them, with the `Likes` that the lifespan yields to it.
    """
    faults.arm(settings.faults)
    nodes = connect(settings.redis_url, replicated=settings.store_mode == "replicated")
    store = Store(nodes)
    # On connections of its own: a crowd of voters' reads must not make the store look away.
    watched = nodes.sharing(connections_max=4)
    watch = StoreWatch(
        watched,
        allow_weak_store=settings.allow_weak_store,
        backlog_bytes_max=settings.backlog_bytes_max,
        store_folder=settings.store_folder,
    )
    batchers = Batchers(nodes, watch)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Likes]]:
        await watch.refresh()
        watching = background.spawn("store-watch", watch.run())
        likes = Likes(watch=watch, batchers=batchers, marks=store.marks)
        machine.calm_collector()
        yield {"likes": likes}
        await likes.aclose()
        await batchers.aclose()
        await background.stop(watching)
        await watched.aclose()
        await nodes.aclose()

    app = FastAPIOffline(  # /docs without a CDN, which readers in China may not reach
        title="dianzan vote API",
        version="1",
        description="Takes likes. A like answered `counted` is durable, and counted once.",
        lifespan=lifespan,
    )
    app.state.watch, app.state.store, app.state.settings = watch, store, settings
    app.include_router(router)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=["retry-after"],
        max_age=86_400,
    )
    for kind in (ApiError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _on_error)
    app.add_exception_handler(ClientGone, _on_hang_up)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    return PromiseHeader(app, watch=watch)


async def _on_error(_request: Request, raised: Exception) -> Response:
    error = problem.translate(raised)
    return Response(problem.body(error), error.status, headers=problem.headers(error), media_type=problem.MEDIA_TYPE)


async def _on_hang_up(_request: Request, _raised: Exception) -> Response:
    # Nobody reads this: a client that goes away is no failure of ours, and must not fill the log as one.
    return Response(status_code=400)
