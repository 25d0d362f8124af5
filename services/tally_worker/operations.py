"""The worker's health and metrics; it serves nothing else."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tally_worker.flush_loop import FlushLoop

router = APIRouter()

READY_WITHIN_S = 10.0


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answers as long as the process serves."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """503 where no round over all shards has succeeded in the last ten seconds; likes then wait in the streams."""
    loop: FlushLoop = request.app.state.loop
    ready = loop.last_success_s > 0 and time.monotonic() - loop.last_success_s < READY_WITHIN_S
    return JSONResponse(
        {"ready": ready}, status_code=200 if ready else 503, headers={} if ready else {"retry-after": "1"}
    )


@router.get("/metrics")
async def prometheus() -> Response:
    """The metrics of this process in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
