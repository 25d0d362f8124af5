"""What only a rehearsal asks: CPU and memory of its processes, bytes of both stores, likes by window."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, cast

import asyncpg
import psutil
from redis.asyncio import Redis

SENDER: Final = "sender"
READ_ALL_S_MAX: Final = 86_400.0  # 250 million rows take minutes, two billion on a slow disk hours


class Meter:
    """CPU seconds and memory of the processes of a rehearsal, `pids` by name; children count with their parent."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._seen: dict[str, dict[int, float]] = {name: {} for name in (SENDER, *pids)}
        self._told = dict.fromkeys(self._seen, 0.0)
        self.look()

    def look(self) -> dict[str, float]:
        """CPU seconds by name since the look before."""
        own = os.times()
        self._seen[SENDER] = {os.getpid(): own.user + own.system}
        for name, process in self._processes.items():
            for each in (process, *process.children()):
                try:
                    times = each.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                self._seen[name][each.pid] = times.user + times.system
        totals = {name: sum(seen.values()) for name, seen in self._seen.items()}
        since = {name: total - self._told[name] for name, total in totals.items()}
        self._told = totals
        return since

    def rss(self, name: str) -> int:
        """Bytes of memory a process holds now."""
        return int(self._processes[name].memory_info().rss)


async def memory_used(client: Redis) -> tuple[int, int]:
    """Bytes a store server's data takes now, and the most since the server started."""
    info = cast("Mapping[str, int]", await client.info("memory"))
    return int(info["used_memory"]), int(info["used_memory_peak"])


async def store_version(client: Redis) -> tuple[str, str]:
    """Which store server this is, and its version."""
    info = cast("Mapping[str, str]", await client.info("server"))
    valkey = info.get("valkey_version")
    return ("Valkey", valkey) if valkey else ("Redis", info["redis_version"])


@dataclass(frozen=True, slots=True)
class LedgerMeasures:
    """Asked after the last like: likes per (window, candidate), bytes of rows and of their indexes, the version."""

    windows: dict[tuple[date, int], int]
    rows: int
    indexes: int
    version: str


async def measure_ledger(url: str, campaign: int) -> LedgerMeasures:
    """Read every row of a campaign by its number, past the project's own edge, and look at its tables."""
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        by_window = await connection.fetch(_query("windows"), campaign, timeout=READ_ALL_S_MAX)
        size = await connection.fetchrow(_query("size_on_disk"), campaign)
        assert size is not None
        windows = {(row["window_day"], row["candidate"]): row["likes"] for row in by_window}
        version = str(connection.get_settings().server_version).split()[0]
        return LedgerMeasures(windows, size["rows"], size["indexes"], version)


def _query(name: str) -> str:
    return Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")
