"""Stands in for systemd below one folder: `systemctl enable --now UNIT …` starts what units say.

It knows what the shipped units use to start: the program, its environment and its folders. Users and sandboxes are
systemd's own.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

INHERITED = ("PATH", "DIANZAN_RESULTS_PORT", "DIANZAN_WORKER_PORT", "DIANZAN_DRAIN_S")  # what no unit names


def start(root: Path, name: str) -> None:
    """Start one unit in the background, and note its process id in `pids`."""
    template, _, instance = name.partition("@")
    file = root / "etc/systemd/system" / f"{template}{'@' if instance else ''}.service"
    text = file.read_text().replace("\\\n", " ").replace("%i", instance)
    options = re.findall(r"(?m)^(\w+)=(.*)$", text)
    lines = [each for key, each in options if key == "Environment"]
    for settings in (Path(each) for key, each in options if key == "EnvironmentFile"):
        lines += settings.read_text().splitlines()
    inherited = {name: os.environ[name] for name in INHERITED}
    environment = {**inherited, **dict(line.split("=", 1) for line in lines)}
    told = dict(options)
    for kind, parent in (("StateDirectory", "var/lib"), ("CacheDirectory", "var/cache")):
        if kind in told:
            (root / parent / told[kind]).mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            shlex.split(told["ExecStart"]),
            cwd=told.get("WorkingDirectory", "/"),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    with (root / "pids").open("a") as pids:
        pids.write(f"{process.pid}\n")


if __name__ == "__main__":
    if sys.argv[1:3] == ["enable", "--now"]:
        for unit in sys.argv[3:]:
            start(Path(os.environ["MACHINE"]), unit)
