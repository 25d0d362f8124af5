"""Settings of the vote API, read from `DIANZAN_*` environment variables."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, DirectoryPath, Field

from dianzan.domain.limits import BACKLOG_BYTES_MAX
from dianzan.process.settings import Proxies, Settings


class VoteSettings(Settings):
    """What the vote API adds to the shared settings."""

    vote_port: int = Field(default=8000, ge=0, le=65_535, description="Port of the vote API.")
    allow_weak_store: bool = Field(
        default=False, description="For development: serve although the store does not keep the promise, and say so."
    )
    attest_store: bool = Field(
        default=False, description="The store is set as deploy/README.md says, though it may not tell its settings."
    )
    backlog_bytes_max: int = Field(
        default=BACKLOG_BYTES_MAX, ge=1, description="Likes are refused while one server's streams hold more bytes."
    )
    store_folder: Annotated[DirectoryPath | None, BeforeValidator(lambda given: given or None)] = Field(
        default=None, description="A folder on the store's disk, where visible here: likes are refused at 85% full."
    )
    tokens_per_network_minute: int = Field(
        default=6_000, ge=1, description="Voter tokens one network (/24 or /48) may ask for in a minute."
    )
    trusted_proxies: Proxies = Field(
        default="127.0.0.1", description="Addresses or CIDRs whose X-Forwarded-For is believed, comma-separated."
    )
    drain_s: float = Field(
        default=5, ge=0, le=60, description="Seconds for which a process asked to end still answers, but is not ready."
    )
