"""One batcher a store server, and the way from a voter's shard to its server."""

from __future__ import annotations

import asyncio
from functools import partial

from dianzan.domain.campaign import Document
from dianzan.domain.errors import StoreAway, StoreUnavailable
from dianzan.domain.shard import Shard
from dianzan.process import background, metrics
from dianzan.store import keys
from dianzan.store.like_link import LikeLink
from dianzan.store.nodes import Node, StoreNodes
from vote_api.likes.batcher import Batcher, Decision
from vote_api.store.watch import StoreWatch


class Batchers:
    """Gives each ballot to the batcher of the server that holds its shard, where that server may take likes.

    After a failover a shard's ballots go to the server that was promoted, as soon as `watch` has learnt of it; those
    that still wait for the old one are answered "unknown", as everything that was on its way.
    """

    def __init__(self, nodes: StoreNodes, watch: StoreWatch) -> None:
        self._nodes, self._watch = nodes, watch
        self._batchers: dict[str, Batcher] = {}
        self._sending: list[asyncio.Task[None]] = []
        self._routes: dict[Shard, tuple[Node, Batcher]] = {}
        self._generation = nodes.generation
        metrics.QUEUE_BALLOTS.set_function(lambda: sum(batcher.queued for batcher in self._batchers.values()))

    def cast(self, document: Document, shard: Shard, ballot: bytes, size: int) -> asyncio.Future[Decision]:
        """Queue a ballot of `size` likes; see Batcher.cast. Raises what the watch knows against the server, too."""
        if self._generation != self._nodes.generation:
            self._routes.clear()
            self._generation = self._nodes.generation
        route = self._routes.get(shard)
        if route is None:
            route = self._routes[shard] = self._route(shard)
        node, batcher = route
        self._watch.require(node)
        return batcher.cast(document, shard, ballot, size)

    async def aclose(self) -> None:
        """Take no more ballots, and return when those already accepted are answered."""
        for batcher in self._batchers.values():
            batcher.close()
        await asyncio.gather(*self._sending)

    def _route(self, shard: Shard) -> tuple[Node, Batcher]:
        try:
            node = self._nodes.of(keys.gate(shard))
        except StoreAway as error:
            raise StoreUnavailable(f"{error} Nothing was counted; ask again.") from error
        batcher = self._batchers.get(node.address)
        if batcher is None:
            on_open = partial(self._watch.recheck, node)
            link = LikeLink(node.client, replicated=self._nodes.replicated, on_open=on_open)
            batcher = Batcher(link, server=node.address)
            self._batchers[node.address] = batcher
            self._sending.append(background.spawn(f"batcher {node.address}", batcher.run()))
        return node, batcher
