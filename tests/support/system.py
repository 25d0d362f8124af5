"""The real system under test: `dianzan up` as a process of its own, on free ports and a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from dianzan.local.stores import StoreAddresses, find_stores

STARTED = "Ctrl-C stops everything in order."  # the last line of what is printed once all are ready


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class System:
    """One running `dianzan up` and the addresses of what it started."""

    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    vote_port: int = field(default_factory=free_port)
    results_port: int = field(default_factory=free_port)
    worker_port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = None
    printed: str = ""

    @property
    def vote_url(self) -> str:
        return f"http://127.0.0.1:{self.vote_port}"

    @property
    def results_url(self) -> str:
        return f"http://127.0.0.1:{self.results_port}"

    @property
    def worker_url(self) -> str:
        return f"http://127.0.0.1:{self.worker_port}"

    @property
    def stores(self) -> StoreAddresses:
        """Where the stores are: those named in the environment, or the system's own."""
        redis_url, database_url = (self._environment().get(f"DIANZAN_{n}_URL") for n in ("REDIS", "DATABASE"))
        return StoreAddresses(redis_url, database_url) if redis_url and database_url else find_stores(self.data)

    def start(self) -> None:
        """Start and wait until everything is ready; fail with what was printed."""
        self.launch()
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line
            if STARTED in line:
                return
        with self.process as ended:
            code = ended.wait()
        self.process = None
        raise AssertionError(f"dianzan up ended with {code}:\n{self.printed}\n{self.logs()}")

    def launch(self) -> None:
        """Start without waiting."""
        ports = ("--vote-port", self.vote_port, "--results-port", self.results_port, "--worker-port", self.worker_port)
        command = [sys.executable, "-m", "dianzan.cli", "up", "--data", self.data, *ports, *self.options]
        self.printed = ""
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
            start_new_session=True,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        self.printed += output
        return process.returncode

    def pid_of(self, module: str) -> int:
        """Process id of one of the three services."""
        pid: int = json.loads((self.data / "run" / f"{module}.json").read_text())[0]
        return pid

    def cli(self, *args: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `dianzan` command against this system."""
        command = [sys.executable, "-m", "dianzan.cli", *map(str, args)]
        environment = self._environment() | {"DIANZAN_DATA": str(self.data)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def logs(self) -> str:
        """Everything the services have logged."""
        return "\n".join(path.read_text() for path in sorted((self.data / "logs").glob("*.log")))

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DIANZAN_")}
        return {**kept, "NO_COLOR": "1", "COLUMNS": "200", **self.environment}
