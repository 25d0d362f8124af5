"""The ceiling of ASGI: uvicorn with uvloop and httptools, and an application that does nothing."""

from __future__ import annotations

import os
from typing import Any

import uvicorn

BODY = b'{"hello":"world"}'
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())],
}


async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 a request's body is not even read
    """Answer anything with 200."""
    if scope["type"] == "http":
        await send(START)
        await send({"type": "http.response.body", "body": BODY})


def serve(application: Any) -> None:
    """Run an application as fast as uvicorn can: no access log, no header of its own but the date."""
    uvicorn.run(
        application,
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="auto",
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=4_096,
    )


if __name__ == "__main__":
    serve(app)
