"""The line that keeps a run, and what it says of the machine, the versions and the commit it was measured on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil


def machine() -> dict[str, Any]:
    """Cores, CPU model, memory, and how busy others keep them."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    load = [round(number, 2) for number in os.getloadavg()]
    memory = round(psutil.virtual_memory().total / 2**30)
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return {"cores": os.cpu_count(), "cpu": model, "memory_gb": memory, "system": system, "load_average": load}


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Python's version and those of installed packages, None for one that is not."""
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def commit() -> str | None:
    """The commit of this checkout, marked if files differ from it; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def keep(path: Path, line: Mapping[str, Any]) -> None:
    """Append one JSON line with this moment and this commit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"at": at, "commit": commit(), **line}, ensure_ascii=False) + "\n")
    print(f"figures kept in {path}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
