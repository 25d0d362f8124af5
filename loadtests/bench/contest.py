"""Servers loaded in turn, round after round, each round from a store that holds none of their likes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dianzan.domain.campaign import Document
from loadtests.bench import wrk
from loadtests.bench.bed import Bed
from loadtests.bench.cores import cpu_seconds
from loadtests.bench.errors import BenchError
from loadtests.bench.options import Scale
from loadtests.bench.wrk import Loaded, Requests
from loadtests.stores import Server


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

    Raises BenchError if the store did not count what was answered.
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

    Raises BenchError if it does not.
    """
    least, most = answers * per_request, (answers + connections) * per_request
    if not least <= counted <= most:
        raise BenchError(
            f"{name}: {answers:,} answers of {per_request} new likes each, but the store counted {counted:,}, "
            f"not {least:,} to {most:,}; nothing is said of its speed."
        )


def one_like(bed: Bed, server: Server, document: Document, pool: wrk.Voters, *, name: str = "like") -> Contestant:
    """Requests of one candidate each, as the widget sends them."""
    return likes_of(bed, server, document, pool, [f'"{code}"' for code in document.candidates], name=name)


def likes_of(
    bed: Bed,
    server: Server,
    document: Document,
    pool: wrk.Voters,
    sets: Sequence[str],
    *,
    name: str,
    per_request: int = 1,
) -> Contestant:
    """Requests of these candidates in turn, all sets of the same length, counted and forgotten by the store's keys."""
    body, grows = '{"candidates":[@CANDIDATES@]}', len(sets[0]) - len("@CANDIDATES@")
    path = f"/v1/campaigns/{document.rules.id}/likes"
    likes = wrk.requests(bed.folder, name, pool, wrk.post(path, body, bearer="@TOKEN@", lengths=grows), sets)
    return Contestant(name, server, likes, per_request, lambda: bed.counted(document), lambda: bed.clear(document))
