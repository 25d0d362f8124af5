"""The simulated servers by the real clock, on the loop that asyncio runs: so the tests of the real ones run on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from typing_extensions import override

from dianzan.domain.campaign import Rules, State
from dianzan.domain.windows import now_ms
from dianzan.ledger.records import StoredCampaign
from dianzan.roster.candidates import Candidate
from tests.simulation.ledger_client import SimLedger
from tests.simulation.ledger_server import LedgerServer
from tests.simulation.loop import Process, SimLoop
from tests.simulation.network import USUAL_S, Network
from tests.simulation.pair import Pair
from tests.simulation.store_client import SimClient
from tests.simulation.store_cluster import Cluster
from tests.simulation.store_server import Server


class WallLoop(SimLoop):
    """The loop that asyncio runs, as the simulated servers want it."""

    @override
    def time(self) -> float:
        return asyncio.get_running_loop().time()

    @override
    def now_ms(self) -> int:
        return now_ms()

    @override
    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    @override
    def later(self, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        # A message that is not late takes no time: with it the stories of test_like_model.py took 8 s, not 3.
        asyncio.get_running_loop().call_later(delay if delay > USUAL_S else 0.0, callback, *args)


def simulated_store() -> SimClient:
    """A client of one empty server."""
    cluster = _cluster(replicated=False)
    return SimClient(cluster, "test", cluster.places[0].server.name)


def simulated_server() -> Server:
    """One empty server."""
    return _cluster(replicated=False).places[0].server


def simulated_pair() -> tuple[SimClient, SimClient, Pair]:
    """Clients of an empty primary and its replica, and the two."""
    cluster = _cluster(replicated=True)
    pair = cluster.places[0].pair
    assert pair is not None
    return SimClient(cluster, "test", pair.primary.name), SimClient(cluster, "test", pair.replica.name), pair


def simulated_ledger(rules: Rules) -> SimLedger:
    """A ledger of one published campaign of five candidates."""
    rng = Random(1)
    loop = WallLoop(rng)
    server = LedgerServer(loop, rng, StoredCampaign(1, rules, 2, State.published, 1, bytes(32), None))
    server.candidates = {n: Candidate(f"c{n}", f"n{n}", "person", "", "", "", "", "") for n in range(1, 6)}
    return SimLedger(server, Network(loop, rng), Process("test", loop))


def _cluster(*, replicated: bool) -> Cluster:
    """Servers as they are outside of a cluster, whose ids go by the millisecond, as real ones do."""
    rng = Random(1)
    loop = WallLoop(rng)
    cluster = Cluster(loop, Network(loop, rng), rng, begin=[[]], replicated=replicated)
    for server in cluster.servers.values():
        server.stream_id_ms, server.clustered = 1, False
    return cluster
