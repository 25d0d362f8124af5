"""A power cut of a store server: what its disk has not been told to keep is gone."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dianzan.local.server import Server
from tests.support.wait import until

_WRITE = re.compile(r"write\(\d+<(?P<path>[^>]+)>.*\) += (?P<bytes>\d+)$")
_SYNC = re.compile(r"f(?:data)?sync\(\d+<(?P<path>[^>]+)>\) += 0(?: |$)")


def aof_of(server: Server) -> Path:
    """The file to which a Valkey server appends now."""
    return max((server.folder / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime_ns)


@asynccontextmanager
async def traced(server: Server, log: Path, *inject: str) -> AsyncIterator[None]:
    """Trace the server's writes and syncs into a file, with what strace is to inject, for the length of the block."""
    options = [part for each in inject for part in ("-e", f"inject={each}")]
    command = ["strace", "-f", "-y", "-s", "0", "-e", "trace=write,fsync,fdatasync", *options]
    tracer = await asyncio.create_subprocess_exec(
        *command, "-o", log, "-p", str(server.pid), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    async def attached() -> bool:
        assert tracer.returncode is None, "strace may not follow the server here"
        return _is_traced(server.pid)

    try:
        await until(attached, what="strace follows the server")
        yield
    finally:
        if tracer.returncode is None:
            tracer.send_signal(signal.SIGINT)
        await tracer.wait()


def _is_traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


@asynccontextmanager
async def small_disk(folder: Path, size: str) -> AsyncIterator[None]:
    """Make a folder that is a disk of its own, for the length of the block; root's right to mount is needed."""
    _make(folder)
    options = f"size={size},mode=0700"
    mounting = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)
    assert await mounting.wait() == 0
    try:
        yield
    finally:
        unmounting = await asyncio.create_subprocess_exec("umount", "--lazy", folder)
        assert await unmounting.wait() == 0


def _make(folder: Path) -> None:
    folder.mkdir()


@dataclass(frozen=True)
class Written:
    """Bytes of a file since the trace began: handed over, and of those the ones a completed sync has covered."""

    written: int
    synced: int


def read_trace(log: Path, path: Path) -> Written:
    """What a trace tells of one file."""
    written = synced = 0
    for line in log.read_text(errors="replace").splitlines():
        if (found := _WRITE.search(line)) and found["path"] == str(path):
            written += int(found["bytes"])
        elif (found := _SYNC.search(line)) and found["path"] == str(path):
            synced = written
    return Written(written, synced)
