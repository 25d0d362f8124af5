"""A second tally worker that is killed with -9 in the middle of its work and started again, for the whole run."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

from loadtests.load import system
from loadtests.load.journal import Target
from loadtests.system import SystemFailed, free_port, start_service

READY_S_MAX = 60.0
LIFE_S = (0.05, 2.0)  # a worker lives this long after it is ready: some die in their first flush
STOP_S_MAX = 30.0


class WorkerKiller:
    """Starts one worker at a time and kills only what it started."""

    def __init__(self, environment: dict[str, str], log: Path, seed: int) -> None:
        self._environment, self._log = environment, log
        self._chance = random.Random(f"{seed} worker")
        self._stopping = threading.Event()
        self.kills = 0

    def run(self) -> None:
        """Start, wait until it flushes, kill, again; the last one is stopped in order."""
        while not self._stopping.is_set():
            port = free_port()
            within = {**os.environ, **self._environment, "DIANZAN_WORKER_PORT": str(port)}
            worker = start_service("tally_worker", self._log, within)
            try:
                self._let_live(worker, port)
            finally:
                self._end(worker)

    def stop(self) -> None:
        """Kill no more."""
        self._stopping.set()

    def _let_live(self, worker: subprocess.Popen[bytes], port: int) -> None:
        waited_s = 0.0
        while not _ready(port):
            if self._stopping.wait(0.05):
                return
            waited_s += 0.05
            if worker.poll() is not None or waited_s > READY_S_MAX:
                raise SystemFailed(f"The second worker did not become ready:\n{self._log.read_text()}")
        self._stopping.wait(self._chance.uniform(*LIFE_S))

    def _end(self, worker: subprocess.Popen[bytes]) -> None:
        if self._stopping.is_set():
            worker.terminate()
        else:
            worker.kill()
            self.kills += 1
        worker.wait(STOP_S_MAX)


@contextmanager
def killing_workers(target: Target, log: Path, seed: int) -> Iterator[WorkerKiller]:
    """Kill workers meanwhile. Raises SystemFailed if not one was killed: then nothing was shown."""
    lines = system.dianzan(target.data, "env").split()
    killer = WorkerKiller(dict(line.split("=", 1) for line in lines), log, seed)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(killer.run)
        try:
            yield killer
        finally:
            killer.stop()
    running.result()  # raises what has ended it early
    if not killer.kills:
        raise SystemFailed("No worker was killed in so short a run: give it more --seconds.")


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=1).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
