"""Figure 10: results read as fast as they are answered, beside the raw ASGI hello."""

from __future__ import annotations

import urllib.request
from typing import Any

from dianzan.local.folder import HOST
from loadtests.bench import wrk
from loadtests.bench.bed import Bed, published, serving
from loadtests.bench.cores import cpu_seconds
from loadtests.bench.figures import Measured, ratios
from loadtests.bench.options import Scale
from loadtests.stores import Server

PATH = "/v1/campaigns/reads/results"
HEADERS = ("Accept-Encoding: gzip, deflate, br",)  # as every browser sends


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """Both servers in turn; their bodies differ in size."""
    published(bed, "reads")
    with (
        serving(bed, "loadtests.bench.peers.hello", port_name="BENCH_PORT") as hello,
        serving(bed, "results_api", port_name="DIANZAN_RESULTS_PORT") as results,
    ):
        kinds = {"hello": (hello, "/"), "results": (results, PATH)}
        for server, path in kinds.values():
            _play(server, path, scale, scale.warm_up_s)
        rates: dict[str, list[float]] = {name: [] for name in kinds}
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
        for _ in range(scale.rounds):
            for name, (server, path) in kinds.items():
                found = _play(server, path, scale, scale.seconds)
                rates[name].append(found["requests_per_s"])
                rounds[name].append(found)
        sizes = {name: _bytes(server, path) for name, (server, path) in kinds.items()}
    ratio = ratios("10", rates["results"], rates["hello"], f"bodies of {sizes['results']:,} and {sizes['hello']} bytes")
    return [Measured("10", ratio.rounds, ratio.note, {"body_bytes": sizes, "rounds": rounds})]


def _play(server: Server, path: str, scale: Scale, seconds: float) -> dict[str, Any]:
    before = cpu_seconds(server.pid)
    loaded = wrk.load(server, path=path, seconds=seconds, connections=scale.connections, headers=HEADERS)
    spent = cpu_seconds(server.pid) - before
    return {
        "requests_per_s": loaded.rate,
        "p99_ms": loaded.p99_ms,
        "server_cpu_us_a_request": round(spent / loaded.answers * 1e6, 2),
        "server_core_busy": round(spent / loaded.seconds, 3),
    }


def _bytes(server: Server, path: str) -> int:
    """The body's size as it is sent."""
    headers = dict(header.split(": ", 1) for header in HEADERS)
    asked = urllib.request.Request(f"http://{HOST}:{server.port}{path}", headers=headers)
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310
        return len(answer.read())
