"""`dianzan` commands in processes of their own, forked from one that has imported the command already.

An import takes most of a second of CPU, and the tests run some 150 commands. Only the import is shared: arguments,
environment, output and exit code are those of a process.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from loadtests.system import COMMAND_S_MAX

from dianzan.cli.main import main

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["pytest", "dianzan.cli.main"])


def command(*words: str | Path, within: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end within an environment."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _forks.Process(
            target=_run, args=([str(word) for word in words], dict(within), [str(path) for path in outputs])
        )
        process.start()
        process.join(COMMAND_S_MAX)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, COMMAND_S_MAX)
        stdout, stderr = (path.read_text() for path in outputs)
        return subprocess.CompletedProcess(words, process.exitcode, stdout, stderr)


def _run(words: list[str], environment: dict[str, str], outputs: list[str]) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["dianzan", *words]
    main()
