"""Figure 8: the tally worker's rate, from likes in the streams to rows committed in Postgres."""

from __future__ import annotations

import asyncio
import time

import asyncpg

from dianzan.cli.stores import Stores
from dianzan.domain.campaign import Document
from dianzan.domain.shard import Shard
from dianzan.store import keys
from loadtests.bench import casting
from loadtests.bench.bed import Bed, published, serving, still
from loadtests.bench.cores import cpu_seconds
from loadtests.bench.errors import BenchError
from loadtests.bench.figures import Measured
from loadtests.bench.options import Scale

LOOK_EVERY_S = 0.02
ROUND_S_MAX = 120.0
COUNTED = "SELECT coalesce(sum(likes), 0)::bigint FROM counts"


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """Fill the streams, start one worker process, watch the counts grow; the ledger grows from round to round."""
    document = published(bed, "worker")
    rates, details, likes = [], [], 0
    for _ in range(scale.rounds):
        cast, _took = casting.cast(bed, document, scale.worker_likes, per_voter=1)
        entries = _waiting(bed, document)
        with serving(bed, "tally_worker", port_name="DIANZAN_WORKER_PORT", wait=False) as server:
            flushed, took = asyncio.run(_watch(bed.addresses.database_url, likes, likes + cast))
            cpu = cpu_seconds(server.pid)
            _require_empty(bed, document)
        likes += cast
        _require_once(bed, document, likes)
        rates.append(flushed / took)
        details.append({"likes": cast, "entries": entries, "worker_cpu_us_a_like": round(cpu / cast * 1e6, 2)})
    return [Measured("8", rates, details={"ledger_rows": likes, "rounds": details})]


async def _watch(url: str, before: int, wanted: int) -> tuple[int, float]:
    """Likes committed after the first commit that was seen, and the seconds they took: the start-up is left out."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(ROUND_S_MAX):
            first = await _counted(connection, before + 1)
            started = time.perf_counter()
            now = await _counted(connection, wanted)
            took = time.perf_counter() - started
    except TimeoutError as error:
        raise BenchError(f"The worker did not commit {wanted - before:,} likes in {ROUND_S_MAX:g} s.") from error
    finally:
        await connection.close()
    if now != wanted or first == wanted:
        raise BenchError(f"The worker counted {now:,} likes of {wanted:,}, {first:,} of them in its first commit.")
    return wanted - first, took


async def _counted(connection: asyncpg.Connection[asyncpg.Record], least: int) -> int:
    """What Postgres counts, once it is at least so much."""
    while True:
        now = int(await connection.fetchval(COUNTED))
        if now >= least:
            return now
        await asyncio.sleep(LOOK_EVERY_S)


def _waiting(bed: Bed, document: Document) -> int:
    return sum(int(bed.valkey.xlen(keys.stream(Shard(document.rules.id, n)))) for n in range(document.rules.shards))


def _require_empty(bed: Bed, document: Document) -> None:
    if still(lambda: _waiting(bed, document)):
        raise BenchError("The worker has committed every like but left entries in the streams.")


def _require_once(bed: Bed, document: Document, likes: int) -> None:
    """Raises BenchError unless the ledger holds exactly so many likes, all different."""

    async def count(stores: Stores) -> tuple[int, int]:
        campaign, recounts = await stores.lifecycle.stored(document.rules.id), stores.ledger.recounts
        rows, identities = await recounts.rows(campaign), await recounts.identities(campaign)
        return sum(rows.values()), sum(identities.values())

    found = bed.run(count)
    if found != (likes, likes):
        raise BenchError(f"{likes:,} likes were cast, the ledger holds {found[0]:,}, {found[1]:,} of them different.")
