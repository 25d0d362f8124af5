"""What a rehearsal has done so far and what it cost, kept in its data folder so that it can go on from there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, Field, ValidationError

from dianzan.domain.errors import DianzanError
from dianzan.local.folder import HOST, write_private
from dianzan.local.stores import EmbeddedStores, owned_folder
from dianzan.local.supervisor import Supervisor
from loadtests.shapes import DAYS

FILE: Final = "rehearsal.json"
OWN: Final = ("valkey", "postgres", "logs", "run", FILE)  # what a rehearsal leaves in its folder
LIKES: Final = 5_000_000
SEED: Final = 2022
MB: Final = 1_000_000
BYTES_A_LIKE: Final = 200  # of disk: 142 in the ledger, the rest while a recount sorts
BYTES_BESIDE: Final = 4_000_000_000  # write-ahead log, and the store's file while it is written again


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
        """Those of a folder, None if it has none. Raises RehearsalError if they cannot be read."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise RehearsalError(f"{path} cannot be read: begin again with --fresh.") from error

    def write(self, folder: Path) -> None:
        """Replace the file whole."""
        write_private(folder / FILE, self.model_dump_json(indent=1))


def begin_or_go_on(folder: Path, likes: int | None, seed: int | None, *, fresh: bool) -> Figures:
    """Those of the rehearsal in the folder, or new ones. Raises RehearsalError if the folder is another's."""
    if fresh and (folder / FILE).exists():
        _clear(folder)
        return _begun(folder, likes, seed)
    figures = Figures.read(folder)
    if figures is None:
        left = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        if left:
            raise RehearsalError(f"{folder} holds something else ({left[0]}, …): choose another folder with --data.")
        return _begun(folder, likes, seed)
    if likes not in (None, figures.likes) or seed not in (None, figures.seed):
        raise RehearsalError(
            f"{folder} holds a rehearsal of {figures.likes:,} likes with seed {figures.seed}: go on without --likes "
            "and --seed, begin again with --fresh, or choose another folder with --data."
        )
    figures.resumed += figures.day < len(DAYS)
    return figures


def _begun(folder: Path, likes: int | None, seed: int | None) -> Figures:
    figures = Figures(likes=likes or LIKES, seed=SEED if seed is None else seed)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    needed, free = figures.likes * BYTES_A_LIKE + BYTES_BESIDE, shutil.disk_usage(folder).free
    if free < needed:
        raise RehearsalError(
            f"{figures.likes:,} likes need up to {needed / 1e9:.0f} GB, and {folder} has {free / 1e9:.0f} GB free: "
            "choose another folder with --data, or fewer likes."
        )
    figures.write(folder)  # from now on the folder is known as a rehearsal's
    return figures


def _clear(folder: Path) -> None:
    """Remove what an earlier rehearsal has left, its processes too, and nothing else."""
    embedded = EmbeddedStores(folder)
    with owned_folder(folder):
        Supervisor(folder, HOST).stop_leftovers()
        embedded.postgres.stop_leftovers()
        embedded.valkey.stop_leftovers()
        for path in (folder / name for name in OWN):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
