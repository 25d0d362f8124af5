"""What the README shows is what happens."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.system import System
from tests.support.wait import until

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"```(sh|json)\n(.*?)```", re.DOTALL)


CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)


def examples() -> list[tuple[str, dict[str, Any] | None]]:
    """Each shell block with the JSON block that follows it, if one does."""
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    followers = [*blocks[1:], ("", "")]
    return [
        (text, json.loads(after) if kind_after == "json" else None)
        for (kind, text), (kind_after, after) in zip(blocks, followers, strict=True)
        if kind == "sh"
    ]


def shape(value: Any) -> Any:
    """The names in a document, and what it says of likes; other values differ from run to run."""
    if isinstance(value, dict):
        return {name: value[name] if name in ("status", "candidate", "code") else shape(value[name]) for name in value}
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


def run(commands: str, system: System, token: str = "") -> str:
    """Run the README's commands against the test's ports, and return what they print."""
    text = commands.replace("http://127.0.0.1:8000", system.vote_url).replace(
        "http://127.0.0.1:8001", system.results_url
    )
    environment = {**os.environ, "TOKEN": token}
    return subprocess.run(
        ["sh", "-euc", text], capture_output=True, text=True, timeout=60, check=True, env=environment
    ).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's commands need curl")
async def test_the_readmes_examples_print_what_the_readme_shows(system: System) -> None:
    (mint, _), *shown = examples()
    token = run(mint + 'printf %s "$TOKEN"', system)
    assert len(shown) == 3

    for commands, expected in shown:

        async def as_shown(commands: str = commands, expected: object = expected) -> bool:
            return bool(shape(json.loads(run(commands, system, token))) == shape(expected))

        await until(as_shown, within_s=10, what=commands)


def test_the_readmes_commands_lead_from_nothing_to_a_published_campaign(system: System, tmp_path: Path) -> None:
    lines = [line for block in CONSOLE.findall(README.read_text(encoding="utf-8")) for line in block.splitlines()]
    commands = [
        line.removeprefix("$ ").partition("#")[0].split() for line in lines if line.startswith("$ dianzan camp")
    ]
    (tmp_path / "services").symlink_to(README.parent / "services")
    environment = {**os.environ, "DIANZAN_DATA": str(system.data)}

    for command in commands:
        words = [sys.executable, "-m", "dianzan.cli", *command[1:]]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    assert [command[2] for command in commands] == ["new", "create", "import-candidates", "publish"]
    assert done.stdout.startswith("Published rolemodels, version ")
