"""The results API's health and metrics, and what the page is told of this installation. The results are in reads.py."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from dianzan.http import openapi
from results_api.documents import Readiness
from results_api.state import ResultsState

router = APIRouter(tags=["operations"])

READY_WITHIN_S = 10.0


@router.get("/web/config.json", include_in_schema=False)
async def config(request: Request) -> dict[str, str]:
    """Where the vote API is, for the page and the button; a port alone (`:8000`) is one of this API's own host."""
    state: ResultsState = request.scope["state"]
    return {"vote_url": state["settings"].vote_url}


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers as long as the process serves."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    responses={
        **openapi.responses(Readiness),
        503: {"description": "No fresh counts.", "content": openapi.content(Readiness)},
    },
)
async def readyz(request: Request) -> Response:
    """503 until counts are read, while they are older than ten seconds, and before the process ends; it serves on."""
    state: ResultsState = request.scope["state"]
    age_s = state["snapshots"].age_s
    ready = age_s is not None and age_s < READY_WITHIN_S and not state["draining"]
    return Response(
        openapi.encode(Readiness(ready, age_s if age_s is None else round(age_s, 3))),
        status_code=200 if ready else 503,
        headers={} if ready else {"retry-after": "1"},
        media_type=openapi.MEDIA_TYPE,
    )


@router.get("/metrics", response_class=Response)
async def prometheus() -> Response:
    """The metrics of this process in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
