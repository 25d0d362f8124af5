"""Dianzan as processes of one's own, as an operator starts them: `dianzan up`, one command, one service.

Load, tests and faults all start processes here. Nothing of dianzan is imported.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

STARTED = "Ctrl-C stops everything in order."  # the last line of what is printed once all are ready
COMMAND_S_MAX = 300.0
STOP_S_MAX = 60.0


class SystemFailed(Exception):
    """The system could not be started, reached or asked; the text says which and shows what it printed."""


_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody uses at this moment, and that was not given here before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def own_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours without any setting of dianzan, and those given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIANZAN_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", **settings}


def command(*words: str | Path, within: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a `dianzan` command to its end within an environment."""
    line = [sys.executable, "-m", "dianzan.cli", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, env=within, timeout=COMMAND_S_MAX, check=False)


def start_service(module: str, log: Path, within: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start one service within an environment; what it prints is appended to `log`, and no Ctrl-C of ours ends it.

    Without a setting for it, the service ends without a drain: nothing here is in front of it that would notice.
    """
    environment = {"DIANZAN_DRAIN_S": "0", **within}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module], env=environment, stdout=output, stderr=output, start_new_session=True
        )


@dataclass
class System:
    """One `dianzan up` on a data folder and free ports."""

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

    def start(self) -> None:
        """Start and wait until everything is ready. Raises SystemFailed with what was printed."""
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
        raise SystemFailed(f"dianzan up ended with {code}:\n{self.printed}\n{self.logs()}")

    def launch(self) -> None:
        """Start without waiting."""
        ports = ("--vote-port", self.vote_port, "--results-port", self.results_port, "--worker-port", self.worker_port)
        line = [sys.executable, "-m", "dianzan.cli", "up", "--data", self.data, *ports, *self.options]
        self.printed = ""
        self.process = subprocess.Popen(
            [str(part) for part in line],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=own_environment(self.environment),
            start_new_session=True,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        output, _ = process.communicate(timeout=STOP_S_MAX)
        self.printed += output
        return process.returncode

    def logs(self) -> str:
        """Everything the services have logged."""
        return "\n".join(path.read_text() for path in sorted((self.data / "logs").glob("*.log")))
