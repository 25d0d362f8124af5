"""The real system under test: `dianzan up` as a process of its own, and what a test may know of its inside."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loadtests.system import System as OwnSystem
from loadtests.system import free_port, own_environment

from dianzan.local.stores import StoreAddresses, find_stores
from tests.support.commands import command

__all__ = ["END", "System", "free_port"]

END = ("--yes", "--early", "the test ends it")  # what ending a campaign that is open needs, without a terminal


@dataclass
class System(OwnSystem):
    """One running `dianzan up` and the addresses of what it started."""

    @property
    def stores(self) -> StoreAddresses:
        """Where the stores are: those named in the environment, or the system's own."""
        redis_url, database_url = (self.environment.get(f"DIANZAN_{n}_URL") for n in ("REDIS", "DATABASE"))
        return StoreAddresses(redis_url, database_url) if redis_url and database_url else find_stores(self.data)

    def pid_of(self, module: str) -> int:
        """Process id of one of the three services."""
        pid: int = json.loads((self.data / "run" / f"{module}.json").read_text())[0]
        return pid

    def cli(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `dianzan` command against this system."""
        done = command(*words, within=own_environment({**self.environment, "DIANZAN_DATA": str(self.data)}))
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done
