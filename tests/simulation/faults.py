"""The faults of a history, one after another as the seed draws them; at the end all of them are healed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.store_cluster import Place
from tests.simulation.store_server import Server

if TYPE_CHECKING:
    from tests.simulation.network import Link
    from tests.simulation.world import World

SLOW_S_MAX = 1.4  # longer than the store's time-out: what was given up may be run afterwards
SKEW_MS_MAX = 9_000  # beyond what the store takes


async def tear(world: World) -> None:
    """Make faults until the plan's time is over, then heal."""
    rng, end = world.rng, world.plan.fault_s
    while world.plan.faults:
        await asyncio.sleep(rng.expovariate(1 / world.plan.fault_every_s))
        if world.loop.time() > end:
            break
        _FAULTS[rng.choice(world.plan.faults)](world)
    await asyncio.sleep(max(0.0, end - world.loop.time()))
    heal(world)


def heal(world: World) -> None:
    """Everything is up again and nothing is wrong with the network or the clocks."""
    world.note("heal")
    world.network.heal()
    world.clocks_ms.clear()
    world.ledger.fuse, world.ledger.up = 0, True
    for process in world.processes:
        process.fuse = process.clock_ms = 0
    for place in world.cluster.places:
        for server in place.servers:
            server.fuse = server.clock_ms = 0
            place.restart(server)
        if place.pair:
            place.pair.mend()
    for name in world.apis + world.workers:
        world.start(name)


def _later(world: World, seconds: float, undo: Callable[[], None]) -> None:
    """Undo a fault after some time, unless everything is healed by then."""

    def due() -> None:
        if world.faulty:
            undo()

    world.loop.later(seconds, due)


# ---- processes ------------------------------------------------------------------------------------------------------


def _kill(world: World) -> None:
    """kill -9 at one of its next steps; started again later. Commands of an operator too."""
    name = world.rng.choice([*world.apis, *world.workers, *(n for n in ("seal", "restore") if n in world.running)])
    process = world.running[name].process
    process.fuse = world.rng.randint(1, 60)
    world.note("kill", name, process.fuse)
    if name in world.apis + world.workers:
        _later(world, 0.1 + world.rng.random(), lambda: _restart(world, name))


def _restart(world: World, name: str) -> None:
    process = world.running[name].process
    if process.fuse:  # it had nothing to do
        process.kill()
    world.start(name)


def _sigterm(world: World) -> None:
    """A rolling restart of one process."""
    name = world.rng.choice([*world.apis, *world.workers])
    running = world.running[name]
    if running.process.alive:
        world.note("sigterm", name)
        running.stop()
        _later(world, 0.5 * world.rng.random(), lambda: world.start(name))


# ---- the network ----------------------------------------------------------------------------------------------------


def _some_link(world: World) -> Link:
    ours = [link for (one, _other), link in sorted(world.network.links.items()) if not one.startswith("store")]
    return world.rng.choice(ours)


def _cut(world: World) -> None:
    """Nothing goes through for a while; between primary and replica too."""
    pairs = [place.pair for place in world.cluster.places if place.pair]
    seconds = 0.1 + 2 * world.rng.random() ** 2
    if pairs and world.rng.random() < 0.4:
        pair = world.rng.choice(pairs)
        world.note("cut", pair.link.name)
        pair.cut()
        _later(world, seconds, pair.mend)
        return
    link = _some_link(world)
    world.note("cut", link.name)
    link.cut = True
    _later(world, seconds, link.heal)


def _lossy(world: World) -> None:
    """Some requests and some replies are lost."""
    link = _some_link(world)
    link.lossy = 0.1 + 0.4 * world.rng.random()
    world.note("lossy", link.name)
    _later(world, 0.1 + world.rng.random(), link.heal)


def _slow(world: World) -> None:
    """Messages are late and overtake each other."""
    link = _some_link(world)
    link.slow_s = world.rng.choice([0.01, 0.1, 0.5, SLOW_S_MAX])
    world.note("slow", link.name, link.slow_s)
    _later(world, 0.05 + 0.5 * world.rng.random(), link.heal)


# ---- the stores -----------------------------------------------------------------------------------------------------


def _some_place(world: World) -> Place:
    return world.rng.choice(world.cluster.places)


def _store(world: World) -> None:
    """A store server dies at one of its next commands, before or after its disk has them; it comes back later."""
    place = _some_place(world)
    server = world.rng.choice(place.servers)
    server.moment = world.rng.choice(["unsynced", "synced"])
    if server is place.primary:
        server.fuse = world.rng.randint(1, 15)
    elif server.up:
        server.crash()
    world.note("store", server.name, server.fuse, server.moment)
    _later(world, 0.1 + 1.5 * world.rng.random(), lambda: _back(place, server))


def _back(place: Place, server: Server) -> None:
    server.fuse = 0
    place.restart(server)


def _ledger(world: World) -> None:
    """Postgres dies at one of its next commits, before or after it; it comes back later."""
    world.ledger.fuse, world.ledger.moment = world.rng.randint(1, 4), world.rng.choice(["before", "after"])
    world.note("ledger", world.ledger.fuse, world.ledger.moment)

    def back() -> None:
        world.ledger.up, world.ledger.fuse = True, 0

    _later(world, 0.2 + world.rng.random(), back)


def _failover(world: World) -> None:
    """The replica is promoted, often after its link was cut or its primary died."""
    pair = _some_place(world).pair
    if pair is None:
        return
    how = world.rng.choice(["at once", "cut", "crash"])
    world.note("failover", pair.primary.name, how)
    if how == "cut":
        pair.cut()
        _later(world, 1.0 + 2 * world.rng.random(), pair.mend)
    elif how == "crash" and pair.primary.up:
        old = pair.primary
        old.crash()
        _later(world, 0.5 + world.rng.random(), lambda: pair.restart(old))

    def promote() -> None:
        if pair.may_fail_over:
            pair.fail_over()

    _later(world, 0.0 if how == "at once" else 1.0 * world.rng.random(), promote)


def _clock(world: World) -> None:
    """A clock jumps: of a process, which keeps it when it starts again, or of a store server."""
    by_ms = world.rng.randint(-SKEW_MS_MAX, SKEW_MS_MAX)
    if world.rng.random() < 0.3:
        server = world.rng.choice(_some_place(world).servers)
        server.clock_ms = by_ms
        world.note("clock", server.name, by_ms)
        return
    name = world.rng.choice(world.apis + world.workers)
    world.clocks_ms[name] = world.running[name].process.clock_ms = by_ms
    world.note("clock", name, by_ms)


_FAULTS: dict[str, Callable[[World], None]] = {
    "kill": _kill,
    "sigterm": _sigterm,
    "cut": _cut,
    "lossy": _lossy,
    "slow": _slow,
    "store": _store,
    "ledger": _ledger,
    "failover": _failover,
    "clock": _clock,
}
