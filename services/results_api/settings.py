"""Settings of the results API, read from `DIANZAN_*` environment variables."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from dianzan.process.settings import Proxies, Settings


def _public_address(url: str) -> str:
    advice = "write https://HOST or https://HOST:PORT, or :PORT for that port of the page's own host"
    if not url.isascii():
        raise ValueError(f"{advice}; a name in Chinese is written as browsers ask for it, xn--…")
    if not re.fullmatch(r"|:\d{1,5}|https?://(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d{1,5})?", url):
        raise ValueError(advice)
    try:
        _ = urlsplit(url if url.startswith("http") else f"http://host{url}").port
    except ValueError as error:
        raise ValueError(f"{advice} ({error})") from error
    return url


class ResultsSettings(Settings):
    """What the results API adds to the shared settings."""

    results_port: int = Field(default=8001, ge=0, le=65_535, description="Port of the results API.")
    vote_url: Annotated[str, AfterValidator(_public_address)] = Field(
        default="",
        description="Public address of the vote API for the page and the button; `:8000`: that port of the same host; "
        "empty: the same origin.",
    )
    drain_s: float = Field(
        default=5, ge=0, le=60, description="Seconds for which a process asked to end still answers, but is not ready."
    )
    trusted_proxies: Proxies = Field(
        default="127.0.0.1", description="Addresses or CIDRs whose X-Forwarded-For is believed, comma-separated."
    )
