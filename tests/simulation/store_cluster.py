"""The simulated store: one server, or pairs of servers that share the shards."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.simulation.loop import SimLoop
from tests.simulation.network import Network
from tests.simulation.pair import Pair
from tests.simulation.store_data import Record
from tests.simulation.store_server import Server


@dataclass(frozen=True, slots=True)
class Place:
    """What holds a part of the shards: one server, or a pair."""

    server: Server
    pair: Pair | None

    @property
    def primary(self) -> Server:
        """The server whose data counts."""
        return self.pair.primary if self.pair else self.server

    @property
    def servers(self) -> list[Server]:
        """All of them."""
        return [self.pair.primary, self.pair.replica] if self.pair else [self.server]

    def lose(self) -> None:
        """Every disk is lost; the servers come back empty."""
        for server in self.servers:
            server.wipe()
        for server in self.servers:
            self.restart(server)

    def restart(self, server: Server) -> None:
        """A dead server comes back."""
        if self.pair:
            self.pair.restart(server)
        elif not server.up:
            server.restart()


class Cluster:
    """All servers, and which holds a key."""

    def __init__(
        self,
        loop: SimLoop,
        network: Network,
        rng: Random,
        *,
        begin: Sequence[Sequence[Record]],
        replicated: bool,
        broken: Collection[str] = (),
    ) -> None:
        """`begin`: per place the records that its servers begin with."""
        self.network = network
        self.replicated = replicated
        self.likes_without_touch = "no-touch" in broken
        self.servers: dict[str, Server] = {}
        self.places: list[Place] = []
        for number, records in enumerate(begin):
            names = [f"store{number}a", f"store{number}b"] if replicated else [f"store{number}a"]
            for name in names:
                self.servers[name] = Server(name, loop, rng, broken=broken)
                self.servers[name].preload(records)
            first, *second = (self.servers[name] for name in names)
            pair = Pair(first, second[0], loop, network, rng) if second else None
            self.places.append(Place(first, pair))

    def place_of(self, key: str) -> int:
        """The number of the place that holds a key: shards take turns, all else is at the first."""
        shard = key[1:].partition("}")[0].rpartition(":")[2] if key.startswith("{") else ""
        return int(shard) % len(self.places) if shard.isdigit() else 0

    def primary_of(self, key: str) -> Server:
        """The server whose data of a key counts."""
        return self.places[self.place_of(key)].primary

    def servers_of(self, key: str) -> list[Server]:
        """Every server that may hold a key."""
        return self.places[self.place_of(key)].servers

    def serving_as_seen_by(self, address: str, believed: str) -> list[str]:
        """Who takes the writes of each place, told by one server: of its own place what it believes itself."""
        return [believed if address.startswith(place.server.name[:-1]) else place.primary.name for place in self.places]

    def value(self, key: str) -> Any:
        """What the store holds under a key, seen from outside."""
        return self.primary_of(key).data.get(key.encode())
