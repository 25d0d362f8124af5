"""Settings every process shares, read from `DIANZAN_*` environment variables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where the stores are and how to log. Each service adds its own in its settings.py."""

    model_config = SettingsConfigDict(env_prefix="DIANZAN_", extra="ignore")

    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="Redis ≥ 7.0 or Valkey ≥ 8; of a cluster the addresses of several nodes, separated by commas.",
    )
    store_mode: Literal["one-node", "replicated"] = Field(
        default="one-node", description="What must hold a like before it is `counted`: one disk, or a replica's too."
    )
    database_url: str = Field(default="postgresql://127.0.0.1:5432/dianzan", description="PostgreSQL ≥ 15.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    faults: str = Field(default="", description="For tests of failures: points at which this process is killed.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
