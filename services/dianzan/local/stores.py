"""Owns the Valkey and PostgreSQL that run from wheels on one data folder: who owns it, start, stop, leftovers."""

import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dianzan.local.cluster import ValkeyCluster, cluster_url, node_folders
from dianzan.local.folder import (
    HOST,
    EmbeddedError,
    StoreAddresses,
    database_url,
    read_port,
    redis_url,
)
from dianzan.local.postgres import PostgresServer
from dianzan.local.revival import Revival
from dianzan.local.server import CONNECT_S_MAX, Server
from dianzan.local.standby import PostgresPair
from dianzan.local.valkey import ValkeyServer

__all__ = [
    "EmbeddedCluster",
    "EmbeddedError",
    "EmbeddedStores",
    "OwnStores",
    "Server",
    "StoreAddresses",
    "find_stores",
    "owned_folder",
]

ONE_NODE: Final = "valkey"  # the store's folder below the data folder
CLUSTER: Final = "cluster"
LEDGER: Final = "postgres"  # the ledger's, of both ways
STANDBY: Final = "standby"


class OwnStores:
    """Both stores on one data folder, owned by one process at a time. `notices` are sentences for the operator."""

    def __init__(
        self, data: Path, store: Server | ValkeyCluster, ledger: Server | PostgresPair, notices: list[str]
    ) -> None:
        self.data = data
        self.notices = notices
        self._store = store
        self._ledger = ledger
        self._lock: int | None = None

    def start(self) -> StoreAddresses:
        """Start both, or neither. Leftovers of an earlier run end first, in the order of `stop`."""
        self.notices.clear()
        self._lock = _own_folder(self.data)
        try:
            _refuse_other_way(self.data, self._store.folder.name)
            self._ledger.stop_leftovers()
            self._store.stop_leftovers()
            self._store.start()
            self._ledger.start()
        except OSError as error:
            self.stop()
            raise _unusable(self.data, error) from error
        except BaseException:
            self.stop()
            raise
        return _addresses(self.data)

    def stop(self) -> None:
        """Stop PostgreSQL, then the store, and give the folder free. What had to be killed is in `notices`."""
        if self._lock is None:
            return
        try:
            self._ledger.stop()
        finally:
            self._store.stop()
        os.close(self._lock)
        self._lock = None

    def poll(self) -> str | None:
        """None while all goes on; otherwise which server died, how, and its last log lines."""
        return self._ledger.death()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class EmbeddedStores(OwnStores):
    """One Valkey, with the one-node promise."""

    def __init__(self, data: Path, *, redis_port: int = 0, postgres_port: int = 0) -> None:
        data = data.expanduser().resolve()
        notices: list[str] = []
        self.valkey: Server = ValkeyServer(data / ONE_NODE, redis_port, notices)
        self.postgres: Server = PostgresServer(data / LEDGER, postgres_port, notices)
        super().__init__(data, self.valkey, self.postgres, notices)

    def poll(self) -> str | None:
        """None while both run; otherwise which server died, how, and its last log lines."""
        return self.valkey.death() or super().poll()


class EmbeddedCluster(OwnStores):
    """A Valkey Cluster and a PostgreSQL with a synchronous standby, with the replicated promise."""

    def __init__(self, data: Path) -> None:
        data = data.expanduser().resolve()
        notices: list[str] = []
        self.cluster = ValkeyCluster(data / CLUSTER, notices)
        self.ledger = PostgresPair(data / LEDGER, data / STANDBY, notices)
        self._revival = Revival([*self.cluster.nodes, self.ledger.standby], notices)
        super().__init__(data, self.cluster, self.ledger, notices)

    def poll(self) -> str | None:
        """Start nodes and the standby again if they died, which `notices` says; otherwise as the other stores."""
        self._revival.look()
        return super().poll()


def _refuse_other_way(data: Path, way: str) -> None:
    if way == CLUSTER and (data / ONE_NODE).exists():
        raise EmbeddedError(
            f"The data folder {data} holds one Valkey's data: "
            "start it without --cluster, or choose another folder with --data."
        )
    if way == ONE_NODE and (data / CLUSTER).exists():
        raise EmbeddedError(
            f"The data folder {data} holds a Valkey Cluster's data: "
            "start it with --cluster, or choose another folder with --data."
        )


@contextmanager
def owned_folder(data: Path) -> Iterator[None]:
    """The folder for one process at a time, if the stores are somebody else's; EmbeddedError if it is taken."""
    lock = _own_folder(data.expanduser().resolve())
    try:
        yield
    finally:
        os.close(lock)


def _own_folder(data: Path) -> int:
    """Make the folder and hold its lock. No child inherits it, so it is free once this process is gone."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        data.chmod(0o700)  # one that was there may be open to others, and its logs with it
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
    if isinstance(error, FileExistsError | NotADirectoryError):
        return EmbeddedError(f"The data folder {data} is a file, or lies in one: choose another with --data.")
    if isinstance(error, PermissionError):
        advice = "make it writable for this user, or choose another with --data"
    else:
        advice = "choose another with --data"
    return EmbeddedError(f"The data folder {data} cannot be used ({error.strerror}): {advice}.")


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
        _connect_any(node_folders(data / CLUSTER) if addresses.replicated else [data / ONE_NODE])
        _connect_any([data / LEDGER])
    except OSError as error:
        raise EmbeddedError(
            f"No stores of dianzan run on folder {data} ({error}): start them with `dianzan up`, "
            "name the folder with --data, or set DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL."
        ) from error
    return addresses


def _addresses(data: Path) -> StoreAddresses:
    database = database_url(data / LEDGER)
    if (data / CLUSTER).exists():
        return StoreAddresses(cluster_url(data / CLUSTER), database, replicated=True)
    return StoreAddresses(redis_url(data / ONE_NODE), database)


def _connect_any(folders: Sequence[Path]) -> None:
    """Return if one of these servers listens; raise what the last one's connection raised."""
    for place, folder in enumerate(folders, start=1):
        try:
            socket.create_connection((HOST, read_port(folder)), CONNECT_S_MAX).close()
        except OSError:
            if place == len(folders):
                raise
        else:
            return
