"""The service most people write: a typed FastAPI route, one SADD a like, one HINCRBY if it was new.

It checks no token, has no window, quota, receipt, ledger or metrics, and a process killed between its two commands
loses a like. Its store is the same, with the same `appendfsync always`.
"""

from __future__ import annotations

import os
from typing import Annotated

import redis.asyncio as redis
from fastapi import FastAPI
from pydantic import BaseModel, Field

from loadtests.bench.peers.hello import serve


class Like(BaseModel):
    """One like."""

    voter: Annotated[str, Field(max_length=64)]
    candidate: Annotated[str, Field(max_length=32)]


class Answer(BaseModel):
    """Whether the like is new."""

    counted: bool


app = FastAPI()
# As many connections as requests at a time: with redis-py's own limit of 100 the next one is answered 500. A pool that
# waits instead was no faster here.
store: redis.Redis = redis.Redis.from_url(
    os.environ.get("DIANZAN_REDIS_URL", "redis://127.0.0.1"), decode_responses=True, max_connections=1_000
)


@app.post("/likes")
async def like(request: Like) -> Answer:
    """Count a like once."""
    new = await store.sadd(f"naive:{request.candidate}", request.voter)
    if new:
        await store.hincrby("naive", request.candidate, 1)
    return Answer(counted=bool(new))


@app.get("/readyz")
async def ready() -> dict[str, bool]:
    """For whoever starts it."""
    return {"ready": True}


if __name__ == "__main__":
    serve(app)
