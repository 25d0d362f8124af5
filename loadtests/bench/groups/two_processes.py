"""Figure 13: two vote API processes on two cores against one; the store has no core of its own if there are two."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from loadtests.bench import contest, wrk
from loadtests.bench.bed import CAMPAIGN, Bed, published, serving
from loadtests.bench.contest import Contestant
from loadtests.bench.figures import Measured
from loadtests.bench.options import Scale
from loadtests.stores import Server


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """One process and both, in turn, with the same number of connections in all."""
    document = published(bed, CAMPAIGN)
    pool = wrk.voters(bed.folder, document, scale.voters_max)
    with (
        serving(bed, "vote_api", port_name="DIANZAN_VOTE_PORT") as first,
        serving(bed, "vote_api", port_name="DIANZAN_VOTE_PORT", core="stores") as second,
    ):
        contestant = contest.one_like(bed, first, document, pool)
        _both(contestant, second, scale, scale.warm_up_s, pool.count)
        one, both = [], []
        for _ in range(scale.rounds):
            one.append(contest.play(bed, scale, contestant, scale.seconds)[0].rate)
            both.append(_both(contestant, second, scale, scale.seconds, pool.count))
    found = [two / single for two, single in zip(both, one, strict=True)]
    return [Measured("13", found, f"{bed_cores(bed)} cores for all", {"one": one, "two": both})]


def bed_cores(bed: Bed) -> int:
    """Cores that servers, stores and load share."""
    return len(bed.cores.each) if bed.cores else 0


def _both(contestant: Contestant, second: Server, scale: Scale, seconds: float, tokens: int) -> float:
    """Load both processes at once with half of the connections and of the voters each; returns their rates' sum."""
    contestant.clear()
    half = replace(scale, connections=scale.connections // 2)
    servers = contestant.server, second

    def load(number: int) -> wrk.Loaded:
        first = number * tokens // 2
        return wrk.load(
            servers[number], seconds=seconds, connections=half.connections, likes=contestant.likes, first=first
        )

    with ThreadPoolExecutor(2) as threads:
        loaded = list(threads.map(load, range(2)))
    answers = sum(each.answers for each in loaded)
    contest.require_counted("two processes", answers, contestant.counted(), 1, scale.connections)
    return sum(each.rate for each in loaded)
