"""Owns the Valkey and PostgreSQL that run from wheels, both on one data folder: who owns it, start, stop, leftovers."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from dianzan.embedded_folder import (
    HOST,
    INSTALL,
    EmbeddedError,
    StoreAddresses,
    database_url,
    read_port,
    redis_url,
)
from dianzan.embedded_servers import CONNECT_S_MAX, PostgresServer, Server, ValkeyServer

__all__ = ["EmbeddedError", "EmbeddedStores", "Server", "StoreAddresses", "find_stores", "owned_folder"]


class EmbeddedStores:
    """Both servers on one data folder, owned by one process at a time. `notices` are sentences for the operator."""

    def __init__(self, data: Path, *, redis_port: int = 0, postgres_port: int = 0) -> None:
        if find_spec("psutil") is None:
            raise EmbeddedError(INSTALL)
        self.data = data.expanduser().resolve()
        self.notices: list[str] = []
        self.valkey: Server = ValkeyServer(self.data / "valkey", redis_port, self.notices)
        self.postgres: Server = PostgresServer(self.data / "postgres", postgres_port, self.notices)
        self._lock: int | None = None

    def start(self) -> StoreAddresses:
        """Start both, or neither. Leftovers of an earlier run end first, in the order of `stop`."""
        self.notices.clear()
        self._lock = _own_folder(self.data)
        try:
            self.postgres.stop_leftovers()
            self.valkey.stop_leftovers()
            self.valkey.start()
            self.postgres.start()
        except OSError as error:
            self.stop()
            raise _unusable(self.data, error) from error
        except BaseException:
            self.stop()
            raise
        return _addresses(self.data)

    def stop(self) -> None:
        """Stop PostgreSQL, then Valkey, and give the folder free. What had to be killed is in `notices`."""
        if self._lock is None:
            return
        try:
            self.postgres.stop()
        finally:
            self.valkey.stop()
        os.close(self._lock)
        self._lock = None

    def poll(self) -> str | None:
        """None while both run; else which server died, how, and its last log lines."""
        return self.valkey.death() or self.postgres.death()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def owned_folder(data: Path) -> Iterator[None]:
    """The folder for one process at a time, where the stores are somebody else's; EmbeddedError where it is taken."""
    lock = _own_folder(data.expanduser().resolve())
    try:
        yield
    finally:
        os.close(lock)


def _own_folder(data: Path) -> int:
    """Make the folder and hold its lock. No child inherits it, so it is free once this process is gone."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(data, error) from error
    try:
        _lock_or_name_owner(lock, data)
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except BaseException:
        os.close(lock)
        raise
    return lock


def _unusable(data: Path, error: OSError) -> EmbeddedError:
    return EmbeddedError(
        f"The data folder {data} cannot be used ({error}): "
        "make it writable for this user, or choose another with --data."
    )


def _lock_or_name_owner(lock: int, data: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(lock, 20).decode().strip() or "unknown"
        raise EmbeddedError(
            f"Another dianzan (process {owner}) uses folder {data}: "
            f"stop it with `kill {owner}`, or choose another folder with --data."
        ) from error


def find_stores(data: Path) -> StoreAddresses:
    """Addresses of the stores that another process started on this folder; EmbeddedError when they do not listen."""
    data = data.expanduser().resolve()
    try:
        addresses = _addresses(data)
        for store in ("valkey", "postgres"):
            socket.create_connection((HOST, read_port(data / store)), CONNECT_S_MAX).close()
    except OSError as error:
        raise EmbeddedError(
            f"No stores of dianzan run on folder {data} ({error}): start them with `dianzan up`, "
            "name the folder with --data, or set DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL."
        ) from error
    return addresses


def _addresses(data: Path) -> StoreAddresses:
    return StoreAddresses(redis_url(data / "valkey"), database_url(data / "postgres"))
