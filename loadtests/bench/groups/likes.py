"""Figures 1, 2, 3 and 5: the same work through us and through others, in turn, on one core each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from dianzan.domain.campaign import Document
from loadtests.bench import contest, wrk
from loadtests.bench.bed import CAMPAIGN, Bed, published, serving, still
from loadtests.bench.contest import Contestant, Series
from loadtests.bench.errors import Skipped
from loadtests.bench.figures import Measured, ratios
from loadtests.bench.options import Scale
from loadtests.bench.peers import nginx
from loadtests.stores import Server

PER_REQUEST = 10


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """All servers run all the time; one is loaded."""
    with contestants(bed, scale) as (found, missing):
        series = contest.in_turn(bed, scale, found)
    rates = {name: each.rates for name, each in series.items()}
    peer = rates.get("nginx", [])
    ten = [rate * PER_REQUEST for rate in rates["like10"]]
    return [
        ratios("1", rates["like"], rates["hello"]),
        ratios("2", rates["like"], rates["naive"]),
        ratios("3", rates["like"] if peer else [], peer, missing),
        Measured("5", ten, _cost(series["like10"]), {"rounds": series["like10"].rounds}),
        *(_stated(name, series[name]) for name in ("hello", "naive", "like")),
        _stated("nginx", series["nginx"]) if peer else Measured("nginx", [], missing),
    ]


def _stated(name: str, series: Series) -> Measured:
    return Measured(name, series.rates, _cost(series), {"rounds": series.rounds})


def _cost(series: Series) -> str:
    """What tells whether the server's core was the limit."""
    cpu, busy = (median(r[name] for r in series.rounds) for name in ("server_cpu_us_a_request", "server_core_busy"))
    return f"{cpu:.1f} µs of CPU a request, core {busy:.0%} busy"


@contextmanager
def contestants(bed: Bed, scale: Scale) -> Iterator[tuple[list[Contestant], str]]:
    """Start everybody; the second is why nginx is not there, empty if it is."""
    document = published(bed, CAMPAIGN)
    pool = wrk.voters(bed.folder, document, scale.voters_max)
    missing = ""
    with ExitStack() as stack:
        hello = stack.enter_context(serving(bed, "loadtests.bench.peers.hello", port_name="BENCH_PORT"))
        naive = stack.enter_context(serving(bed, "loadtests.bench.peers.naive", port_name="BENCH_PORT"))
        ours = stack.enter_context(serving(bed, "vote_api", port_name="DIANZAN_VOTE_PORT"))
        found = [Contestant("hello", hello), _naive(bed, naive, pool)]
        try:
            peer = stack.enter_context(nginx.serving(bed, document))
        except Skipped as reason:
            missing = str(reason)
        else:
            found.append(contest.one_like(bed, peer, document, pool, name="nginx"))
        found.append(contest.one_like(bed, ours, document, pool))
        found.append(_ten_likes(bed, ours, document, pool))
        yield found, missing


def _ten_likes(bed: Bed, server: Server, document: Document, pool: wrk.Voters) -> Contestant:
    codes = document.candidates * 2
    sets = [",".join(f'"{code}"' for code in codes[at : at + PER_REQUEST]) for at in range(len(document.candidates))]
    return contest.likes_of(bed, server, document, pool, sets, name="like10", per_request=PER_REQUEST)


def _naive(bed: Bed, server: Server, pool: wrk.Voters) -> Contestant:
    body = '{"voter":"@TOKEN@","candidate":"@CANDIDATES@"}'
    grows = wrk.TOKEN_CHARS - len("@TOKEN@") + len("c01") - len("@CANDIDATES@")
    sets = [f"c{n:02}" for n in range(1, 65)]
    likes = wrk.requests(bed.folder, "naive", pool, wrk.post("/likes", body, lengths=grows), sets)

    def counted() -> int:
        return still(lambda: sum(int(n) for n in bed.valkey.hvals("naive")))

    return Contestant("naive", server, likes, 1, counted, lambda: bed.drop("naive*"))
