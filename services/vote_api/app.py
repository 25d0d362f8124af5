"""The composition root of the vote API: the only place that builds its clients and tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from dianzan.domain.errors import ApiError
from dianzan.http import problem
from dianzan.http.asgi import App
from dianzan.http.headers import Strict
from dianzan.process import background, faults, machine
from dianzan.store.nodes import connect
from dianzan.store.store import Store
from vote_api import operations
from vote_api.body import ClientGone
from vote_api.likes import routes as like_routes
from vote_api.likes.batchers import Batchers
from vote_api.likes.path import Likes
from vote_api.openapi import describe
from vote_api.settings import VoteSettings
from vote_api.state import VoteState
from vote_api.store.promise_header import PromiseHeader
from vote_api.store.watch import StoreWatch
from vote_api.voters import routes as voter_routes
from vote_api.voters.classes import Voters


def create_app(settings: VoteSettings) -> App:
    """The ASGI application. Likes do not come this far: `LikeProtocol` answers them, with the state's `likes`."""
    faults.arm(settings.faults)
    # /docs without a CDN, which readers in China may not reach.
    app = (FastAPIOffline if settings.docs else partial(FastAPI, docs_url=None, redoc_url=None, openapi_url=None))(
        redirect_slashes=False,  # a redirect would be made from the Host that the client sent
        title="dianzan vote API",
        version="1",
        description="Takes likes. A like answered `counted` is durable, and counted once.",
        lifespan=lambda _app: _running(settings),
    )
    for router in (voter_routes.router, like_routes.router, operations.router):
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
        app.add_exception_handler(kind, problem.handler(Response))
    app.add_exception_handler(ClientGone, _on_hang_up)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    return Strict(PromiseHeader(app))


@asynccontextmanager
async def _running(settings: VoteSettings) -> AsyncIterator[VoteState]:
    """Open everything in order; close it in reverse when the server stops."""
    async with AsyncExitStack() as opened:
        nodes = connect(settings.redis_url, replicated=settings.store_mode == "replicated")
        opened.push_async_callback(nodes.aclose)
        # On connections of its own: a crowd of voters' reads must not make the store look away.
        watched = nodes.sharing(connections_max=4)
        opened.push_async_callback(watched.aclose)
        watch = StoreWatch(
            watched,
            allow_weak_store=settings.allow_weak_store,
            attest_store=settings.attest_store,
            backlog_bytes_max=settings.backlog_bytes_max,
            store_folder=settings.store_folder,
        )
        await watch.refresh()
        opened.push_async_callback(background.stop, background.spawn("store-watch", watch.run()))
        batchers = Batchers(nodes, watch)
        opened.push_async_callback(batchers.aclose)
        store = Store(nodes)
        likes = Likes(watch=watch, batchers=batchers, marks=store.marks)
        opened.push_async_callback(likes.aclose)
        voters = Voters(watch=watch, rates=store.rates, tokens_per_network_minute=settings.tokens_per_network_minute)
        machine.calm_collector()
        yield {"watch": watch, "marks": store.marks, "voters": voters, "likes": likes, "draining": False}


async def _on_hang_up(_request: Request, _raised: Exception) -> Response:
    # Nobody reads this: a client that goes away is no failure of ours, and must not fill the log as one.
    return Response(status_code=400)
