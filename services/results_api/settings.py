"""Settings of the results API, read from `DIANZAN_*` environment variables."""

from __future__ import annotations

from pydantic import Field

from dianzan.process.settings import Settings


class ResultsSettings(Settings):
    """What the results API adds to the shared settings."""

    results_port: int = Field(default=8001, ge=0, le=65_535, description="Port of the results API.")
    vote_url: str = Field(
        default="",
        description="Public address of the vote API for the page and the button; `:8000`: that port of the same host; "
        "empty: the same origin.",
    )
    drain_s: float = Field(
        default=5, ge=0, le=60, description="Seconds for which a process asked to end still answers, but is not ready."
    )
