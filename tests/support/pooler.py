"""Debian's PgBouncer in transaction mode before a PostgreSQL, with fewer sessions than its clients have."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import pytest
from loadtests.system import free_port

from tests.support.wait import until

PGBOUNCER: Final = Path("/usr/sbin/pgbouncer")
CONFIGURATION: Final = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = transaction
default_pool_size = 3
server_round_robin = 1
"""  # each transaction on another session than the one before


@asynccontextmanager
async def pooled(database_url: str, folder: Path) -> AsyncIterator[str]:
    """The address of a database behind the pooler; skips where PgBouncer is not installed."""
    if not PGBOUNCER.is_file():
        pytest.skip("Debian's pgbouncer is not installed (apt install pgbouncer)")
    parts = urlsplit(database_url)
    users, configuration, listen = folder / "users", folder / "pgbouncer.ini", free_port()
    users.write_text(f'"{parts.username}" "{parts.password}"\n')
    configuration.write_text(CONFIGURATION.format(host=parts.hostname, port=parts.port, listen=listen, users=users))
    command: list[str | Path] = [PGBOUNCER, "-q", configuration]
    if os.geteuid() == 0:  # it does not run as root
        for path in (folder, *folder.parents[:2]):
            path.chmod(path.stat().st_mode | 0o055)
        command[1:1] = ["-u", "nobody"]
    process = _start(command)
    try:
        await until(_listening(listen, process), what="pgbouncer listens")
        yield urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{listen}"))
    finally:
        process.terminate()
        process.wait()


def _start(command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _listening(port: int, process: subprocess.Popen[bytes]) -> Callable[[], Awaitable[bool]]:
    async def listens() -> bool:
        assert process.poll() is None, "pgbouncer has ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    return listens
