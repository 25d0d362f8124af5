"""Which core runs what, and how many files a process may open."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

FILES_WANTED = 65_536  # 20,000 readers at both ends, with room


@dataclass(frozen=True, slots=True)
class Cores:
    """One core each for the server under test, the stores and the load; on two cores the last two share one."""

    server: int
    stores: int
    load: int

    @property
    def each(self) -> set[int]:
        """All of them."""
        return {self.server, self.stores, self.load}


def share_out() -> Cores:
    """The first three cores we may use; with fewer the later ones share."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[min(1, len(allowed) - 1)], allowed[min(2, len(allowed) - 1)])


@contextmanager
def on_core(cores: Cores | None, which: str) -> Iterator[None]:
    """Run this block, and what is started in it, on the core of `server`, `stores` or `load` only."""
    before = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, {getattr(cores, which)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def allow_open_files() -> int:
    """Raise the limit of open files as far as we may, for us and what we start; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(hard, FILES_WANTED) if os.geteuid() == 0 else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return max(soft, wanted)
