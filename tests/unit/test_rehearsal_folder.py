"""A rehearsal begins only where there is room for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from loadtests.rehearsal import command
from loadtests.rehearsal.figures import RehearsalError


class _Disk(NamedTuple):
    free: int


def test_a_disk_too_small_is_said_before_anything_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: _Disk(free=40_000_000_000))

    with pytest.raises(RehearsalError, match=r"250,000,000 likes need up to 54 GB, and .* has 40 GB free"):
        command._figures(tmp_path, 250_000_000, None, fresh=False)

    assert list(tmp_path.iterdir()) == []


def test_what_is_not_asked_for_is_as_usual_and_then_as_the_folder_says(tmp_path: Path) -> None:
    begun = command._figures(tmp_path / "one", None, None, fresh=False)
    command._figures(tmp_path / "two", 7, 0, fresh=False)

    assert (begun.likes, begun.seed) == (command.LIKES, command.SEED)
    found = command._figures(tmp_path / "two", None, None, fresh=False)
    assert (found.likes, found.seed) == (7, 0)
