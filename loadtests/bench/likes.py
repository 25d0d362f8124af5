"""Figures 1, 2, 3 and 5: the same work through us and through others, in turn, on one core each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from dianzan.domain.campaign import Document
from loadtests.bench import nginx, wrk
from loadtests.bench.bed import Bed, published, serving, still
from loadtests.bench.cores import cpu_seconds
from loadtests.bench.errors import BenchError, Skipped
from loadtests.bench.figures import Measured, ratios
from loadtests.bench.options import Scale
from loadtests.bench.wrk import Loaded, Requests
from loadtests.stores import Server

CAMPAIGN = "bench"
PER_REQUEST = 10


@dataclass(frozen=True)
class Contestant:
    """One server of the rounds: its requests, how its likes are counted in the store and forgotten again."""

    name: str
    server: Server
    likes: Requests | None = None  # None: plain GETs that count nothing
    per_request: int = 1
    counted: Callable[[], int] = field(default=lambda: 0)
    clear: Callable[[], None] = field(default=lambda: None)


@dataclass
class Series:
    """The rounds of one contestant."""

    rates: list[float] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """All servers run all the time; one is loaded."""
    with contestants(bed, scale) as (found, missing):
        series = in_turn(bed, scale, found)
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


def in_turn(bed: Bed, scale: Scale, found: Sequence[Contestant]) -> dict[str, Series]:
    """Warm each up, then so many rounds of every one, always in the same order."""
    for contestant in found:
        play(bed, scale, contestant, scale.warm_up_s)
    series = {contestant.name: Series() for contestant in found}
    for _ in range(scale.rounds):
        for contestant in found:
            loaded, details = play(bed, scale, contestant, scale.seconds)
            series[contestant.name].rates.append(loaded.rate)
            series[contestant.name].rounds.append(details)
    return series


def play(bed: Bed, scale: Scale, contestant: Contestant, seconds: float) -> tuple[Loaded, dict[str, Any]]:
    """One round of one contestant, from a store that holds none of its likes.

    Raises BenchError where the store did not count what was answered.
    """
    contestant.clear()
    pids = contestant.server.pid, bed.valkey_pid
    before = [cpu_seconds(pid) for pid in pids]
    loaded = wrk.load(contestant.server, seconds=seconds, connections=scale.connections, likes=contestant.likes)
    spent = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    counted = contestant.counted()
    if contestant.likes:
        require_counted(contestant.name, loaded.answers, counted, contestant.per_request, scale.connections)
    return loaded, {
        "requests_per_s": round(loaded.rate),
        "answers": loaded.answers,
        "likes_in_store": counted,
        "p50_ms": loaded.p50_ms,
        "p99_ms": loaded.p99_ms,
        "server_cpu_us_a_request": round(spent[0] / loaded.answers * 1e6, 2),
        "server_core_busy": round(spent[0] / loaded.seconds, 3),
        "store_core_busy": round(spent[1] / loaded.seconds, 3),
        "load_core_busy": round(loaded.cpu_s / loaded.seconds, 3),
    }


def require_counted(name: str, answers: int, counted: int, per_request: int, connections: int) -> None:
    """Every answer was of a new voter, so the store holds its likes; each connection may have left one unanswered.

    Raises BenchError where it does not.
    """
    least, most = answers * per_request, (answers + connections) * per_request
    if not least <= counted <= most:
        raise BenchError(
            f"{name}: {answers:,} answers of {per_request} new likes each, but the store counted {counted:,}, "
            f"not {least:,} to {most:,}; nothing is said of its speed."
        )


@contextmanager
def contestants(bed: Bed, scale: Scale) -> Iterator[tuple[list[Contestant], str]]:
    """Start everybody; the second is why nginx is not there, empty where it is."""
    document = published(bed, CAMPAIGN)
    pool = wrk.voters(bed.folder, document, scale.voters_max)
    missing = ""
    with ExitStack() as stack:
        hello = stack.enter_context(serving(bed, "loadtests.bench.hello", port_name="BENCH_PORT"))
        naive = stack.enter_context(serving(bed, "loadtests.bench.naive", port_name="BENCH_PORT"))
        ours = stack.enter_context(serving(bed, "vote_api", port_name="DIANZAN_VOTE_PORT"))
        found = [Contestant("hello", hello), _naive(bed, naive, pool)]
        try:
            peer = stack.enter_context(nginx.serving(bed, document))
        except Skipped as reason:
            missing = str(reason)
        else:
            found.append(one_like(bed, peer, document, pool, name="nginx"))
        found.append(one_like(bed, ours, document, pool))
        found.append(_ten_likes(bed, ours, document, pool))
        yield found, missing


def one_like(bed: Bed, server: Server, document: Document, pool: wrk.Voters, *, name: str = "like") -> Contestant:
    """Requests of one candidate each, as the widget sends them."""
    sets = [f'"{code}"' for code in document.candidates]
    likes = wrk.requests(bed.folder, name, pool, _template(sets), sets)
    return _likes(bed, server, document, likes, name=name)


def _ten_likes(bed: Bed, server: Server, document: Document, pool: wrk.Voters) -> Contestant:
    codes = document.candidates * 2
    sets = [",".join(f'"{code}"' for code in codes[at : at + PER_REQUEST]) for at in range(len(document.candidates))]
    likes = wrk.requests(bed.folder, "like10", pool, _template(sets), sets)
    return _likes(bed, server, document, likes, name="like10", per_request=PER_REQUEST)


def _template(sets: Sequence[str]) -> str:
    body, grows = '{"candidates":[@CANDIDATES@]}', len(sets[0]) - len("@CANDIDATES@")
    return wrk.post(f"/v1/campaigns/{CAMPAIGN}/likes", body, bearer="@TOKEN@", lengths=grows)


def _likes(
    bed: Bed, server: Server, document: Document, likes: Requests, *, name: str, per_request: int = 1
) -> Contestant:
    return Contestant(name, server, likes, per_request, lambda: bed.counted(document), lambda: bed.clear(document))


def _naive(bed: Bed, server: Server, pool: wrk.Voters) -> Contestant:
    body = '{"voter":"@TOKEN@","candidate":"@CANDIDATES@"}'
    grows = wrk.TOKEN_CHARS - len("@TOKEN@") + len("c01") - len("@CANDIDATES@")
    sets = [f"c{n:02}" for n in range(1, 65)]
    likes = wrk.requests(bed.folder, "naive", pool, wrk.post("/likes", body, lengths=grows), sets)

    def counted() -> int:
        return still(lambda: sum(int(n) for n in bed.valkey.hvals("naive")))

    return Contestant("naive", server, likes, 1, counted, lambda: bed.drop("naive*"))
