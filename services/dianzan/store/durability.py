"""What a store server must be set to, and how a write is confirmed, so that an answered like is never lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.asyncio import Redis

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

    Raises StoreError if the server does not answer, or refuses to tell.
    """
    with mapped():
        settings = await client.config_get(*DURABLE_SETTINGS)
        replication = cast("Mapping[str, Any]", await client.info("replication"))
    broken = [
        f"{name} is {_text(settings.get(name)) or '?'!r}: set it to {wanted}"
        for name, wanted in DURABLE_SETTINGS.items()
        if _text(settings.get(name)) != wanted
    ]
    version = await library.version(client)
    # A newer one serves too: its functions keep their names as long as their arguments.
    if version is None or version < library.VERSION:
        broken.append(f"function library version is {version}, not {library.VERSION}: run dianzan migrate")
    if replication["role"] != "master":
        broken.append("this server is a replica: likes go to the primary")
    elif replicated:
        broken += _replication_gaps(replication)
    return broken


def _replication_gaps(replication: Mapping[str, Any]) -> list[str]:
    """Exactly one replica, in step: with two that may be promoted, one's word would not be enough."""
    count = int(replication["connected_slaves"])
    if count != 1:
        return [f"{count} replicas are connected: the replicated mode needs exactly one"]
    replica = replication["slave0"]
    if replica["state"] != "online" or int(replica["lag"]) > REPLICA_LAG_S_MAX:
        return [f"the replica is {replica['state']}, {replica['lag']} s behind: it must be in step"]
    return []


# ---- the end of a pipeline whose writes a replica must hold ---------------------------------------------------------


async def has_waitaof(client: Redis) -> bool:
    """Whether the server can wait for its replica's fsync; Redis 7.0 cannot, and then its replica's memory must do."""
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
    """How full a server is: `memory` used of its limit (0 to 1), `backlog` bytes of the streams asked about."""

    memory: float
    backlog: int


async def room(client: Redis, streams: Sequence[str]) -> Room:
    """Measure one server in one round trip. Without maxmemory the limit is the machine's memory."""
    with mapped():
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.info("memory")
            for stream in streams:
                pipeline.memory_usage(stream)
            info, *sizes = await pipeline.execute()
    limit = int(info["maxmemory"]) or int(info["total_system_memory"])
    return Room(int(info["used_memory"]) / limit, sum(size or 0 for size in sizes))


async def memory_used(client: Redis) -> tuple[int, int]:
    """Bytes a server's data takes now, and the most since the server started."""
    info = cast("Mapping[str, int]", await client.info("memory"))
    return int(info["used_memory"]), int(info["used_memory_peak"])


def _text(value: object) -> str | None:
    return value.decode() if isinstance(value, bytes) else cast("str | None", value)
