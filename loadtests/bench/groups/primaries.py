"""Figure 14: the same likes through one, two and three primaries, on all the cores there are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from statistics import median

from dianzan.cli.stores import Stores
from dianzan.domain.campaign import Document
from dianzan.local.folder import redis_url
from dianzan.local.stores import StoreAddresses
from dianzan.local.valkey import ValkeyServer
from loadtests.bench.bed import Bed, published
from loadtests.bench.casting import cast
from loadtests.bench.cores import cpu_seconds
from loadtests.bench.figures import Measured, ratios
from loadtests.bench.options import Scale

COUNTS = (1, 2, 3)
SHARDS = 12  # so that two and three primaries get equally many


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """One like a voter, as figure 6, with the shards of one campaign on so many primaries, in turn.

    Where the primaries have no core each, the rate ends at the cores; what one core-second of them does tells whether
    a further primary on a further machine would add as much as the first.
    """
    document = published(bed, "primaries", shards=SHARDS)
    rates: dict[int, list[float]] = {count: [] for count in COUNTS}
    per_core: dict[int, list[float]] = {count: [] for count in COUNTS}
    with ExitStack() as started:
        primaries = [bed]
        primaries += [started.enter_context(_another(bed, document, number)) for number in COUNTS[:-1]]
        for turn in range(-1, scale.rounds):
            for count in COUNTS:
                used = primaries[:count]
                for primary in used:
                    primary.clear(document)
                before = sum(cpu_seconds(primary.valkey_pid) for primary in used)
                likes, took = cast(bed, document, count * scale.function_likes, per_voter=1, beside=used[1:])
                spent = sum(cpu_seconds(primary.valkey_pid) for primary in used) - before
                if turn >= 0:  # the first warms up
                    rates[count].append(likes / took)
                    per_core[count].append(likes / spent)
    each = ", ".join(f"{median(per_core[count]):,.0f} on {count}" for count in COUNTS)
    note = f"{len(os.sched_getaffinity(0))} cores; likes a core-second of the stores: {each}"
    details = {"rates": rates, "likes_a_core_second": per_core}
    return [
        replace(ratios("14a", rates[2], rates[1], note), details=details),
        ratios("14b", rates[3], rates[1]),
    ]


@contextmanager
def _another(bed: Bed, document: Document, number: int) -> Iterator[Bed]:
    """A further primary with the functions, and with gates as the first has them."""
    server = ValkeyServer(bed.folder / f"primary{number}", 0, [])
    server.start()
    try:
        with server.client() as client:
            addresses = StoreAddresses(redis_url(server.folder), bed.addresses.database_url)
            primary = replace(bed, addresses=addresses, valkey=client, valkey_pid=server.pid)
            primary.run(lambda stores: _open(stores, document))
            yield primary
    finally:
        server.stop()


async def _open(stores: Stores, document: Document) -> None:
    await stores.store.load_library()
    await stores.store.gates.open(document, document.rules.every_shard, first=True)
