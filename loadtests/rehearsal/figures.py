"""What a rehearsal has done so far and what it cost, kept in its data folder so that it can go on from there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import psutil
from pydantic import BaseModel, Field, ValidationError

from dianzan.domain.errors import DianzanError
from dianzan.local.folder import write_private

FILE: Final = "rehearsal.json"
SENDER: Final = "sender"


class RehearsalError(DianzanError):
    """A rehearsal that cannot begin or go on, or that found a difference; the text says what to do."""


class Day(BaseModel):
    """One finished day: its likes, the seconds it took, and the store's bytes at its end.

    `backlog` bytes of those were likes that waited for the ledger; the others hold the marks of `held` likes.
    """

    likes: int
    seconds: float
    store: int
    backlog: int
    held: int


class Figures(BaseModel):
    """The plan, how far it has come (the next batch), and what was measured.

    What is lost with a process that is killed is sent again, which changes nothing, and its second is not measured.
    """

    likes: int
    seed: int
    day: int = 0
    batch: int = 0
    repeated: int = 0  # likes sent again on purpose
    resumed: int = 0  # times the rehearsal went on after an interruption
    seconds: float = 0.0
    waited_s: float = 0.0  # for the worker, with BACKLOG_ENTRIES_MAX entries in the streams
    today_s: float = 0.0
    empty: int = 0  # bytes of the store before the first like
    peak: int = 0
    peak_rss: int = 0
    cpu_s: dict[str, float] = Field(default_factory=dict)
    days: list[Day] = Field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Those of a folder, None where it has none. Raises RehearsalError where they cannot be read."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise RehearsalError(f"{path} cannot be read: begin anew with --fresh.") from error

    def write(self, folder: Path) -> None:
        """Replace the file whole."""
        write_private(folder / FILE, self.model_dump_json(indent=1))


class Meter:
    """CPU seconds and memory of the processes of a rehearsal, `pids` by name; children count with their parent."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._seen: dict[str, dict[int, float]] = {name: {} for name in (SENDER, *pids)}
        self._told = dict.fromkeys(self._seen, 0.0)
        self.look()

    def look(self) -> dict[str, float]:
        """CPU seconds by name since the look before."""
        own = os.times()
        self._seen[SENDER] = {os.getpid(): own.user + own.system}
        for name, process in self._processes.items():
            for each in (process, *process.children()):
                try:
                    times = each.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                self._seen[name][each.pid] = times.user + times.system
        totals = {name: sum(seen.values()) for name, seen in self._seen.items()}
        since = {name: total - self._told[name] for name, total in totals.items()}
        self._told = totals
        return since

    def rss(self, name: str) -> int:
        """Bytes of memory a process holds now."""
        return int(self._processes[name].memory_info().rss)
