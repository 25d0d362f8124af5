"""The vote API's health and metrics."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from dianzan.http import openapi
from vote_api.documents import Readiness
from vote_api.state import VoteState

router = APIRouter(tags=["operations"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> dict[str, str]:
    """Answers as long as the process serves; says nothing of the store."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    responses={**openapi.responses(Readiness), 503: {"content": openapi.content(Readiness)}},
    summary="Whether likes are taken now",
)
async def readyz(request: Request) -> Response:
    """503 while no store server may take likes: down, full, or its promise broken; and before the process ends.

    Likes do not need Postgres.
    """
    state: VoteState = request.scope["state"]
    watch = state["watch"]
    promise: Literal["kept", "attested", "broken", "waived"] = "kept" if watch.all_durable else "broken"
    if promise == "kept" and watch.attested:
        promise = "attested"
    if watch.waived:
        promise = "waived"
    ready, reasons = watch.ready, [*watch.reasons, *watch.attested]
    if state["draining"]:
        ready, reasons = False, [*reasons, "this process is about to end"]
    return Response(
        openapi.encode(Readiness(ready, promise, reasons)),
        status_code=200 if ready else 503,
        headers={} if ready else {"retry-after": "1"},
        media_type=openapi.MEDIA_TYPE,
    )


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def prometheus() -> Response:
    """The metrics of this process in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
