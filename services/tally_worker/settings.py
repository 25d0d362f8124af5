"""Settings of the tally worker, read from `DIANZAN_*` environment variables."""

from __future__ import annotations

from pydantic import Field

from dianzan.settings import Settings


class WorkerSettings(Settings):
    """What the tally worker adds to the shared settings."""

    worker_port: int = Field(default=8002, ge=0, le=65_535, description="Port of the worker's health and metrics.")
    flush_every_s: float = Field(default=0.1, gt=0, le=2, description="Pause after a round that found nothing.")
