"""A rehearsal begins only where there is room for it, goes on with its own folder, and touches nobody else's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import typer
from loadtests.rehearsal.__main__ import rehearse
from loadtests.rehearsal.figures import FILE, LIKES, OWN, SEED, Figures, RehearsalError, begin_or_go_on
from typer.testing import CliRunner


class _Disk(NamedTuple):
    free: int


def test_a_disk_too_small_is_said_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: _Disk(free=40_000_000_000))

    with pytest.raises(RehearsalError, match=r"250,000,000 likes need up to 54 GB, and .* has 40 GB free"):
        begin_or_go_on(tmp_path, 250_000_000, None, fresh=False)

    assert list(tmp_path.iterdir()) == []


def test_what_is_not_asked_for_is_as_usual_and_then_as_the_folder_says(tmp_path: Path) -> None:
    begun = begin_or_go_on(tmp_path / "one", None, None, fresh=False)
    begin_or_go_on(tmp_path / "two", 7, 0, fresh=False)

    assert (begun.likes, begun.seed, begun.resumed) == (LIKES, SEED, 0)
    found = begin_or_go_on(tmp_path / "two", None, None, fresh=False)
    assert (found.likes, found.seed, found.resumed) == (7, 0, 1)


@pytest.mark.parametrize(("likes", "seed"), [(2_000, None), (None, 6), (2_000, 5)])
def test_another_plan_is_not_mixed_with_the_one_in_the_folder(
    tmp_path: Path, likes: int | None, seed: int | None
) -> None:
    Figures(likes=1_000, seed=5).write(tmp_path)

    with pytest.raises(RehearsalError, match="holds a rehearsal of 1,000 likes with seed 5: go on without --likes and"):
        begin_or_go_on(tmp_path, likes, seed, fresh=False)


@pytest.mark.parametrize("options", [[], ["--fresh"]])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    app = typer.Typer()
    app.command()(rehearse)

    done = CliRunner().invoke(app, ["--data", str(tmp_path), *options])

    assert done.exit_code == 1
    assert done.stderr == f"{tmp_path} holds something else (thesis.txt, …): choose another folder with --data.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_fresh_begins_again_and_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    Figures(likes=1_000, seed=5, day=3).write(tmp_path)
    for name in OWN:
        if name != FILE:
            (tmp_path / name).mkdir()
            (tmp_path / name / "of an earlier run").touch()
    (tmp_path / "notes.txt").write_text("mine")

    begun = begin_or_go_on(tmp_path, 2_000, 9, fresh=True)

    assert (begun.likes, begun.seed, begun.day, begun.resumed) == (2_000, 9, 0, 0)
    assert Figures.read(tmp_path) == begun
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "lock", FILE}
