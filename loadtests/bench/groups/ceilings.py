"""Ceilings of the two stores: the least work that still is a write."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, date, datetime

import asyncpg

from loadtests.bench.bed import Bed
from loadtests.bench.cores import cpu_seconds, on_core
from loadtests.bench.errors import BenchError
from loadtests.bench.figures import Measured
from loadtests.bench.options import Scale
from loadtests.bench.pump import Pipeline, pump

COMMANDS_A_PIPELINE = 1_000
KEY = "incr"


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """INCR through pipelines with every write synced; COPY of ledger rows into a table without an index."""
    increments, busy = [], []
    for _ in range(scale.rounds):
        before = cpu_seconds(bed.valkey_pid)
        number, took = _increment(bed, 2 * scale.function_likes)
        increments.append(number / took)
        busy.append(round((cpu_seconds(bed.valkey_pid) - before) / took, 3))
    return [
        Measured("incr", increments, details={"store_core_busy": busy}),
        Measured("copy", asyncio.run(_copies(bed, scale))),
    ]


def _increment(bed: Bed, number: int) -> tuple[int, float]:
    bed.drop(KEY)
    one = f"*2\r\n$4\r\nINCR\r\n${len(KEY)}\r\n{KEY}\r\n".encode() * COMMANDS_A_PIPELINE
    pipelines: list[Pipeline] = [(lambda: one, COMMANDS_A_PIPELINE)] * (number // COMMANDS_A_PIPELINE)
    with on_core(bed.cores, "server"):
        took = pump({bed.addresses.redis_url: pipelines}, lambda _reply: None)
    sent, counted = len(pipelines) * COMMANDS_A_PIPELINE, int(str(bed.valkey.get(KEY)))
    if counted != sent:
        raise BenchError(f"{sent:,} INCR were answered, but the store counted {counted:,}.")
    return sent, took


async def _copies(bed: Bed, scale: Scale) -> list[float]:
    rates = []
    columns = ("liked_at", "window_day", "network", "campaign", "candidate", "publisher", "voter_class", "voter")
    connection = await asyncpg.connect(bed.addresses.database_url)
    try:
        await connection.execute("CREATE TABLE bare (LIKE likes)")
        for _ in range(scale.rounds):
            rows = _rows(scale.function_likes)
            started = time.perf_counter()
            await connection.copy_records_to_table("bare", records=rows, columns=columns)
            rates.append(len(rows) / (time.perf_counter() - started))
            found = await connection.fetchval("SELECT count(*) FROM bare")
            if found != len(rows):
                raise BenchError(f"{len(rows):,} rows were copied, {found:,} are there.")
            await connection.execute("TRUNCATE bare")
    finally:
        await connection.close()
    return rates


def _rows(number: int) -> list[tuple[datetime, date, int, int, int, int, int, bytes]]:
    at, voters = datetime.now(UTC), os.urandom(16 * number)
    return [(at, at.date(), 0, 1, n % 64 + 1, 0, 1, voters[16 * n : 16 * n + 16]) for n in range(number)]
