"""Figure 4: how long a like takes when likes come at 70% of the rate they can come at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import uvloop

from dianzan.local.folder import HOST
from loadtests.bench import contest, wrk
from loadtests.bench.bed import CAMPAIGN, Bed, published, serving
from loadtests.bench.cores import cpu_seconds
from loadtests.bench.figures import Measured
from loadtests.bench.open_loop import Answers, percentile, play
from loadtests.bench.options import Scale
from loadtests.bench.requests import like_requests
from loadtests.stores import Server

SHARE = 0.7
SKIPPED_S = 1.0  # of each round: connections are new and caches cold
HELLO = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """The full rate is measured here again by wrk, so that the figure stands by itself."""
    document = published(bed, CAMPAIGN)
    pool = wrk.voters(bed.folder, document, scale.voters_max)
    with (
        serving(bed, "loadtests.bench.peers.hello", port_name="BENCH_PORT") as hello,
        serving(bed, "vote_api", port_name="DIANZAN_VOTE_PORT") as ours,
    ):
        full = contest.in_turn(bed, scale, [contest.one_like(bed, ours, document, pool)])["like"]
        rate = SHARE * sorted(full.rates)[len(full.rates) // 2]
        number = round(rate * (SKIPPED_S + scale.seconds))
        rounds, details = [], []
        for _ in range(scale.rounds):
            bed.clear(document)
            found = _round(bed, ours, like_requests(document, number)[0], rate, scale)
            contest.require_counted("like", number, bed.counted(document), 1, 0)
            own = _round(bed, hello, [HELLO] * number, rate, scale)
            rounds.append(found["p99_ms"])
            details.append(found | {"hello": own})
    return [Measured("4", rounds, f"{rate:,.0f}/s", {"rate": rate, "full": full.rates, "rounds": details})]


def _round(bed: Bed, server: Server, requests: Sequence[bytes], rate: float, scale: Scale) -> dict[str, Any]:
    before = cpu_seconds(server.pid), cpu_seconds(bed.valkey_pid)
    answers: Answers = uvloop.run(play(server.port, requests, rate=rate, connections=scale.connections))
    seconds, waits = len(requests) / rate, answers.waits(SKIPPED_S)
    return {
        **{f"p{percent:g}_ms": round(percentile(waits, percent) * 1e3, 3) for percent in (50, 99, 99.9)},
        "max_ms": round(waits[-1] * 1e3, 3),
        "generator_core_busy": round(answers.busy, 3),
        "server_core_busy": round((cpu_seconds(server.pid) - before[0]) / seconds, 3),
        "store_core_busy": round((cpu_seconds(bed.valkey_pid) - before[1]) / seconds, 3),
    }
