"""The public page and the button: static files, one cache life for all so that a release never mixes with another."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent / "web"
# A minute: an embedded button follows a release soon, and crowds that reload ask once.
FILE_HEADERS = {"cache-control": "public, max-age=60", "access-control-allow-origin": "*"}
PAGE_HEADERS = {
    **FILE_HEADERS,
    "content-security-policy": "default-src 'self'; img-src 'self' https: http: data:; connect-src *; "
    "base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
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
@router.get("/c/{campaign}")
async def page() -> FileResponse:
    """The public page; it reads which campaign to show from its own address."""
    return FileResponse(FOLDER / "page" / "index.html", headers=PAGE_HEADERS)


@router.get("/like-button.js")
@router.get("/web/like-button.js")
async def like_button(request: Request) -> Response:
    """The button other sites embed by one script tag."""
    return await _files().get_response("button/like-button.js", request.scope)


def mount(app: FastAPI) -> None:
    """Add page, button and their files to the app."""
    app.include_router(router)
    app.mount("/web", _files(), name="web")
