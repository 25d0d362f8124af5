"""Settings every process shares, read from `DIANZAN_*` environment variables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, MutableMapping
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dianzan.domain.errors import DianzanError

PREFIX: Final = "DIANZAN_"
IN_FILE: Final = "_FILE"
# Every variable that some process or command reads: one file may serve them all.
KNOWN: Final = frozenset(
    {
        "ALLOW_WEAK_STORE",
        "ATTEST_STORE",
        "BACKLOG_BYTES_MAX",
        "DATA",
        "DATABASE_URL",
        "DOCS",
        "DRAIN_S",
        "FAULTS",
        "FLUSH_EVERY_S",
        "HOST",
        "KEEP_COMMITTED_S",
        "LOG_LEVEL",
        "REDIS_URL",
        "RESULTS_PORT",
        "RESULTS_ROLE",
        "STORE_FOLDER",
        "STORE_MODE",
        "TOKENS_PER_NETWORK_MINUTE",
        "TRUSTED_PROXIES",
        "VOTE_PORT",
        "VOTE_URL",
        "WORKER_PORT",
    }
)
WRONG: Final = 2  # the exit code, as of a command that was called wrongly


def _networks(listed: str) -> str:
    for network in filter(None, map(str.strip, listed.split(","))):
        try:
            ip_network(network)
        except ValueError as error:
            raise ValueError(f"{error}; write addresses or networks, such as 10.1.2.3 or 10.1.2.0/24") from error
    return listed


class SettingError(DianzanError):
    """A setting's file cannot be used; the text names it and says why."""


def read_files(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set each setting for which NAME_FILE names a file that holds it, as secrets are given to containers.

    Raises SettingError where both are set, or the file cannot be read or is empty.
    """
    for name in [each for each in environment if each.startswith(PREFIX) and each.endswith(IN_FILE)]:
        setting = name.removesuffix(IN_FILE)
        if setting.removeprefix(PREFIX) not in KNOWN:
            continue  # which `unread` tells
        if setting in environment:
            raise SettingError(f"{setting} and {name} are both set: keep one.")
        file = Path(environment.pop(name))  # a process started from here gets the value
        try:
            value = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"{name} names {file}, which cannot be read: {error}.") from error
        if not value:
            raise SettingError(f"{name} names {file}, which is empty.")
        environment[setting] = value


class AddressesIn:
    """Whether an address is one of a list's, or in one of its networks."""

    def __init__(self, listed: str) -> None:
        self._networks = [ip_network(network) for network in filter(None, map(str.strip, listed.split(",")))]

    def __contains__(self, address: object) -> bool:
        try:
            found = ip_address(str(address))
        except ValueError:
            return False
        return any(found in network for network in self._networks)


# Addresses and CIDRs, separated by commas. uvicorn would take what is neither for a name, and believe nobody.
Proxies = Annotated[str, AfterValidator(_networks)]


class Settings(BaseSettings):
    """Where the stores are and how to log. Each service adds its own in its settings.py."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    @classmethod
    def of_process(cls) -> Self:
        """The settings of this process, which ends here if one is wrong: a line each, with what to write."""
        try:
            read_files()
            return cls()
        except ValidationError as error:
            for wrong in error.errors():
                name = f"{PREFIX}{str(wrong['loc'][0]).upper()}"
                sys.stderr.write(f"{name} is {str(wrong['input'])!r}: {wrong['msg'].removeprefix('Value error, ')}.\n")
            raise SystemExit(WRONG) from error
        except SettingError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(WRONG) from error

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
    docs: bool = Field(default=True, description="Whether the APIs serve /docs, /redoc and /openapi.json.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")


def unread(names: Iterable[str] = os.environ) -> list[str]:
    """One sentence a variable that looks like ours and that nothing reads: a slip, or a setting of another release."""
    said = []
    for name in sorted(name for name in names if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in KNOWN):
        close = get_close_matches(name.removeprefix(PREFIX), KNOWN, n=1)
        said.append(f"{name} is read by nothing" + (f": did you mean {PREFIX}{close[0]}?" if close else "."))
    return said
