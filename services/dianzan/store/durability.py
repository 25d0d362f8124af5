"""What a store server must be set to, and how a write is confirmed, so that an answered like is never lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from redis.asyncio import Redis

from dianzan.domain.errors import StoreAway, StoreError, StoreUntold
from dianzan.domain.limits import REPLICA_LAG_S_MAX, REPLICA_WAIT_MS
from dianzan.store import library
from dianzan.store.errors import mapped

# What a server must be set to so that an answered like survives a crash of the store's process or its power.
DURABLE_SETTINGS: Final = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
_WAITAOF_SINCE: Final = (7, 2)  # of Redis; Valkey names the Redis version it is compatible with

Command = tuple[str | int, ...]


async def durability_gaps(client: Redis, *, replicated: bool) -> list[str]:
    """Why this server does not keep its mode's promise, one sentence a reason; empty if it does.

    Raises StoreAway if the server does not answer. Raises StoreUntold if it may not tell one thing; what it tells is
    looked at all the same, and its gaps are in the error.
    """
    broken, untold = await _library_gaps(client), []
    for look in (_settings_gaps, partial(_replication_gaps, replicated=replicated)):
        try:
            broken += await look(client)
        except StoreUntold as error:
            untold.append(str(error))
    if untold:
        raise StoreUntold("; ".join(untold), broken)
    return broken


async def _settings_gaps(client: Redis) -> list[str]:
    with _told("CONFIG GET"):
        return _wrong(await client.config_get(*DURABLE_SETTINGS))


async def _replication_gaps(client: Redis, *, replicated: bool) -> list[str]:
    with _told("INFO"):
        replication = cast("Mapping[str, Any]", await client.info("replication"))
    if replication["role"] != "master":
        return ["this server is a replica: likes go to the primary"]
    if not replicated:
        return []
    return _pair_gaps(replication) or await _replica_gaps(client, replication["slave0"])


async def _library_gaps(client: Redis) -> list[str]:
    """Why this server's functions cannot take likes; empty if they can. This much every server tells."""
    version = await library.version(client)
    # A newer one serves too: its functions keep their names as long as their arguments.
    if version is None:
        return [
            "the function library is missing, as in an empty store: run dianzan migrate, then dianzan restore for each "
            "campaign that it held"
        ]
    if version < library.VERSION:
        return [f"function library version is {version}, not {library.VERSION}: run dianzan migrate"]
    return []


def _wrong(settings: Mapping[Any, Any]) -> list[str]:
    return [
        f"{name} is {_text(settings.get(name)) or '?'!r}: set it to {wanted}"
        for name, wanted in DURABLE_SETTINGS.items()
        if _text(settings.get(name)) != wanted
    ]


@contextmanager
def _told(command: str) -> Iterator[None]:
    """Raise StoreUntold where the server forbids this command or does not know it."""
    try:
        with mapped(command):
            yield
    except (StoreAway, StoreUntold):
        raise
    except StoreError as error:
        raise StoreUntold(f"{error}") from error


def _pair_gaps(replication: Mapping[str, Any]) -> list[str]:
    """Exactly one replica, in step: with two that may be promoted, one's word would not be enough."""
    count = int(replication["connected_slaves"])
    if count != 1:
        return [f"{count} replicas are connected: the replicated mode needs exactly one"]
    replica = replication["slave0"]
    if replica["state"] != "online" or int(replica["lag"]) > REPLICA_LAG_S_MAX:
        return [f"the replica is {replica['state']}, {replica['lag']} s behind: it must be in step"]
    return []


async def _replica_gaps(client: Redis, replica: Mapping[str, Any]) -> list[str]:
    """What the replica's own settings lack where its fsync cannot be waited for; with them WAIT is enough.

    A replica that fsyncs always answers the primary's question how far it is only after the fsync.
    """
    if await has_waitaof(client):
        return []
    pool = client.connection_pool
    there = {**pool.connection_kwargs, "host": replica["ip"], "port": int(replica["port"])}
    asked = Redis.from_pool(type(pool)(connection_class=pool.connection_class, **there))
    try:
        with mapped("CONFIG GET"):
            return [f"the replica's {gap}" for gap in _wrong(await asked.config_get(*DURABLE_SETTINGS))]
    except StoreError as error:
        return [f"the replica's settings cannot be read ({error}): before Redis 7.2 the replicated mode needs that"]
    finally:
        await asked.aclose()


# ---- the end of a pipeline whose writes a replica must hold ---------------------------------------------------------


async def has_waitaof(client: Redis) -> bool:
    """Whether the server can wait for its replica's fsync; Redis 7.0 cannot: see `_replica_gaps`."""
    with mapped():
        version = str((await client.info("server"))["redis_version"]).split(".")
    return tuple(int(part) for part in version[:2]) >= _WAITAOF_SINCE


def confirmation(touch: str, *, waitaof: bool) -> list[Command]:
    """The commands that end such a pipeline, on the connection that wrote.

    WAIT covers the last write of its own connection, and with it all that the server wrote before. Where nothing was
    new the connection has written nothing, and WAIT would answer for nothing: so `touch` is always written.
    """
    commands: list[Command] = [("INCR", touch), ("WAIT", 1, REPLICA_WAIT_MS)]
    if waitaof:
        commands.append(("WAITAOF", 1, 1, REPLICA_WAIT_MS))
    return commands


def confirmed(replies: Sequence[object]) -> bool:
    """Whether the replies to `confirmation` say that one replica holds everything."""
    touched, waited, *synced = replies
    return (
        isinstance(touched, int)
        and isinstance(waited, int)
        and waited >= 1
        and all(isinstance(reply, list) and min(reply) >= 1 for reply in synced)
    )


# ---- room -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Room:
    """How full a server is: `memory` used of its limit (0 to 1), `backlog` bytes of the streams asked about.

    None is what it may not tell, which `untold` names.
    """

    memory: float | None
    backlog: int | None
    untold: str = ""


async def clock_ms(client: Redis) -> int:
    """A server's clock in Unix milliseconds."""
    with mapped("TIME"):
        seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def room(client: Redis, streams: Sequence[str]) -> Room:
    """Measure one server in one round trip. Without maxmemory the limit is the machine's memory."""
    asked = ["INFO", *("MEMORY USAGE" for _ in streams)]
    with mapped("INFO or MEMORY USAGE"):
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.info("memory")
            for stream in streams:
                pipeline.memory_usage(stream)
            info, *sizes = await pipeline.execute(raise_on_error=False)
    refused = [f"{name} was refused: {found}" for name, found in zip(asked, (info, *sizes), strict=True) if _no(found)]
    memory = None
    if not _no(info):
        limit = int(info["maxmemory"]) or int(info["total_system_memory"])
        memory = int(info["used_memory"]) / limit
    backlog = None if any(map(_no, sizes)) else sum(size or 0 for size in sizes)
    return Room(memory, backlog, refused[0] if refused else "")


async def memory_used(client: Redis) -> tuple[int, int]:
    """Bytes a server's data takes now, and the most since the server started."""
    info = cast("Mapping[str, int]", await client.info("memory"))
    return int(info["used_memory"]), int(info["used_memory_peak"])


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else cast("str | None", value)


def _no(answer: object) -> bool:
    return isinstance(answer, Exception)
