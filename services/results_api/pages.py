"""The public page and the button: static files, one cache life for all so that a release never mixes with another."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from dianzan.http import headers
from results_api.state import ResultsState

Handler = Callable[[Request, Exception], Awaitable[Response]]

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent / "web"
# A minute: an embedded button follows a release soon, and crowds that reload ask once.
FILE_HEADERS = {"cache-control": "public, max-age=60", "access-control-allow-origin": "*"}
PAGE_HEADERS = {
    **FILE_HEADERS,
    "referrer-policy": "no-referrer",
}
ROBOTS = "User-agent: *\nDisallow: /v1/\n"
# Lines that hold a comment alone: types and reasons are for readers of the source, and a quarter of its bytes.
COMMENTS = re.compile(rb"^ *(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/)$", re.MULTILINE)


class WebFiles(StaticFiles):
    """The modules of page, button and shared; the scripts without their comments, line for line."""

    def file_response(
        self,
        full_path: os.PathLike[str] | str,
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """A file with the cache life and the cross-origin leave that all files have."""
        answer = super().file_response(full_path, stat_result, scope, status_code)
        answer.headers.update(FILE_HEADERS)
        if not isinstance(answer, FileResponse) or Path(full_path).suffix != ".js":
            return answer
        script = _without_comments(Path(full_path), stat_result.st_mtime_ns)
        return Response(script, status_code, {**answer.headers, "content-length": str(len(script))})


@cache
def _without_comments(path: Path, _changed_ns: int) -> bytes:
    return COMMENTS.sub(lambda comment: b"\n" * comment[0].count(b"\n"), path.read_bytes())


@cache
def _files() -> WebFiles:
    return WebFiles(directory=FOLDER)


@router.get("/")
async def first_page(request: Request) -> FileResponse:
    """The page of the campaign that is open; it chooses by itself."""
    return _page(request)


@router.get("/c/{campaign}")
@router.get("/c/{campaign}/")
async def page(request: Request, campaign: str) -> FileResponse:
    """The public page; it reads which campaign to show from its own address."""
    state: ResultsState = request.scope["state"]
    return _page(request, status=200 if state["snapshots"].may_have(campaign) else 404)


@router.get("/c/{_mistyped:path}")
async def no_page(request: Request) -> FileResponse:
    """People get the page, which leads on."""
    return _page(request, status=404)


@router.get("/favicon.ico")
async def icon() -> FileResponse:
    """For those who ask without reading the page."""
    return FileResponse(FOLDER / "page" / "icon.svg", headers=FILE_HEADERS)


@router.get("/robots.txt")
async def robots() -> PlainTextResponse:
    """Pages may be found, documents need not be."""
    return PlainTextResponse(ROBOTS, headers=FILE_HEADERS)


def or_no_page(otherwise: Handler) -> Handler:
    """People who ask for what there is not get the page, which leads on; programs get the problem document."""

    async def handle(request: Request, raised: Exception) -> Response:
        path, accepted = request.url.path, request.headers.get("accept", "")
        is_missing = getattr(raised, "status_code", 0) == HTTPStatus.NOT_FOUND
        if is_missing and "text/html" in accepted and not path.startswith(("/v1/", "/web/")):
            return _page(request, status=404)
        return await otherwise(request, raised)

    return handle


def _page(request: Request, status: int = 200) -> FileResponse:
    state: ResultsState = request.scope["state"]
    policy = {"content-security-policy": page_policy(state["settings"].vote_url)}
    return FileResponse(FOLDER / "page" / "index.html", status, {**PAGE_HEADERS, **policy})


def page_policy(vote_url: str) -> str:
    """What the page may load: its own files, photos from anywhere, and answers of the two APIs."""
    votes = f"*{vote_url}" if vote_url.startswith(":") else vote_url
    sources = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: https: http:",
        "connect-src": f"'self' {votes}".strip(),
    }
    return "; ".join([*(f"{name} {value}" for name, value in sources.items()), headers.CLOSED])


@router.get("/like-button.js")
@router.get("/web/like-button.js")
async def like_button(request: Request) -> Response:
    """The button other sites embed by one script tag."""
    return await _files().get_response("button/like-button.js", request.scope)


def mount(app: FastAPI) -> None:
    """Add page, button and their files to the app."""
    app.include_router(router)
    app.mount("/web", _files(), name="web")
