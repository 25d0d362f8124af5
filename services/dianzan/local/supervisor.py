"""Runs the three services as child processes: start, readiness, death, stop in order, leftovers of an earlier run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dianzan.domain.errors import DianzanError
from dianzan.local import listening
from dianzan.local.folder import write_private
from dianzan.local.processes import end, of_earlier_run, started_at

READY_S_MAX = 60.0
STOP_S_MAX = 30.0  # above the vote API's graceful shutdown of 20 s
LOG_LINES_SHOWN = 8
LOG_BYTES_MAX = 20_000_000  # a longer log becomes NAME.log.1, in the place of the one before it


class SupervisorError(DianzanError):
    """A service could not be started or died; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Service:
    """A module to run with `python -m`, the port it listens on and the environment it gets beside ours."""

    module: str
    port: int
    option: str
    environment: Mapping[str, str]


class Supervisor:
    """The services of one data folder; logs in `logs/`, process ids in `run/`."""

    def __init__(self, data: Path, host: str) -> None:
        self._logs, self._run, self._host = data / "logs", data / "run", host
        self._running: dict[str, tuple[Service, subprocess.Popen[bytes]]] = {}
        self.notices: list[str] = []

    def stop_leftovers(self) -> None:
        """End services whose supervisor was killed; a process id is ours only with its start time."""
        for note in sorted(self._run.glob("*.json")):
            pid, started = _noted(note)
            if pid is None:
                self.notices.append(
                    f"{note} cannot be read: should a port be taken, {note.stem} of an earlier run has it."
                )
            elif found := of_earlier_run(pid, started):
                end(found, signal.SIGTERM, STOP_S_MAX)
                self.notices.append(f"Stopped {note.stem} (process {pid}), left by an earlier run.")
            note.unlink()

    def start(self, service: Service) -> None:
        """Start one service. Raises SupervisorError if it cannot listen on its port."""
        if said := listening.obstacle(self._host, service.port, service.option):
            raise SupervisorError(said)
        self._logs.mkdir(parents=True, exist_ok=True)
        self._run.mkdir(parents=True, exist_ok=True)
        with self._log_path(service).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", service.module],
                env={**os.environ, **service.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only the supervisor, which stops all in order
            )
        self._running[service.module] = (service, process)
        write_private(self._run / f"{service.module}.json", json.dumps([process.pid, started_at(process.pid)]))

    def wait_ready(self, stopping: threading.Event) -> None:
        """Wait until every service answers /readyz with 200, or until `stopping`.

        Raises SupervisorError with the last log lines where one dies or takes longer than READY_S_MAX.
        """
        deadline = time.monotonic() + READY_S_MAX
        for service, _process in self._running.values():
            while not listening.answers_ready(self._host, service.port):
                dead = self.poll()
                if dead:
                    raise SupervisorError(dead)
                if time.monotonic() > deadline:
                    raise SupervisorError(
                        f"{service.module} is not ready after {READY_S_MAX:.0f} s.{self._tail(service)}"
                    )
                if stopping.wait(0.05):
                    return

    def poll(self) -> str | None:
        """None while all run; otherwise which service ended, with its last log lines. A long log is rotated."""
        for service, process in self._running.values():
            _rotate(self._log_path(service))
            if process.poll() is not None:
                return f"{service.module} ended with exit code {process.returncode}.{self._tail(service)}"
        return None

    def stop(self) -> None:
        """Stop the services in the order they were started; one that does not end in time is killed and named."""
        for name, (_service, process) in self._running.items():
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self.notices.append(
                    f"{name} did not stop in {STOP_S_MAX:.0f} s and was killed; nothing counted is lost."
                )
            (self._run / f"{name}.json").unlink(missing_ok=True)
        self._running.clear()

    def pid(self, module: str) -> int:
        """The process id of a running service."""
        return self._running[module][1].pid

    def _log_path(self, service: Service) -> Path:
        return self._logs / f"{service.module}.log"

    def _tail(self, service: Service) -> str:
        lines = self._log_path(service).read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return f" Its log, {self._log_path(service)}, ends with:\n  " + "\n  ".join(lines)


def _rotate(log: Path) -> None:
    """Copy the log and cut it, since the service holds it open and appends. A line written just between is lost."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def _noted(note: Path) -> tuple[int | None, float]:
    """Process id and start time of a note; no id where a power cut left it empty."""
    try:
        pid, started = json.loads(note.read_text())
    except (ValueError, TypeError):
        return None, 0.0
    return (pid, started) if isinstance(pid, int) else (None, 0.0)
