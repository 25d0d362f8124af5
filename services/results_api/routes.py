"""What FastAPI serves of the results API: health, metrics, and the page's settings. The results are in reads.py."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from results_api.settings import ResultsSettings
from results_api.view import Snapshots

router = APIRouter()

READY_WITHIN_S = 10.0


@router.get("/web/config.json", include_in_schema=False)
async def config(request: Request) -> dict[str, str]:
    """Where the vote API is, for the page and the button; a port alone (`:8000`) is one of this API's own host."""
    settings: ResultsSettings = request.app.state.settings
    return {"vote_url": settings.vote_url}


@router.get("/healthz", tags=["operations"])
async def healthz() -> dict[str, str]:
    """Answers as long as the process serves."""
    return {"status": "ok"}


@router.get("/readyz", tags=["operations"], responses={503: {"description": "No fresh counts."}})
async def readyz(request: Request) -> JSONResponse:
    """503 until counts are read, and while they are older than ten seconds (they go on being served)."""
    snapshots: Snapshots = request.app.state.snapshots
    age_s = snapshots.age_s
    ready = age_s is not None and age_s < READY_WITHIN_S
    content: dict[str, Any] = {"ready": ready, "age_s": age_s if age_s is None else round(age_s, 3)}
    return JSONResponse(content, status_code=200 if ready else 503, headers={} if ready else {"retry-after": "1"})


@router.get("/metrics", tags=["operations"], response_class=Response)
async def prometheus() -> Response:
    """The metrics of this process in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
