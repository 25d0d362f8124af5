"""Settings of the tally worker, read from `DIANZAN_*` environment variables."""

from __future__ import annotations

from pydantic import Field

from dianzan.domain.limits import KEPT_S_MAX
from dianzan.process.settings import Settings


class WorkerSettings(Settings):
    """What the tally worker adds to the shared settings."""

    worker_port: int = Field(default=8002, ge=0, le=65_535, description="Port of the worker's health and metrics.")
    keep_committed_s: float = Field(
        default=0,
        ge=0,
        le=KEPT_S_MAX,
        description="Seconds for which the store keeps committed likes, for a PostgreSQL that comes back older.",
    )
    flush_every_s: float = Field(default=0.1, gt=0, le=2, description="Pause after a round that found nothing.")
