"""What the vote API knows of the store: the published campaigns, and of each server whether it may take likes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dianzan.domain.campaign import Document
from dianzan.domain.errors import StoreError
from dianzan.process import logs, metrics
from dianzan.process.trouble import kind
from dianzan.store import keys
from dianzan.store.nodes import Node, StoreNodes
from dianzan.store.store import Store
from vote_api.store.campaigns import KnownCampaigns
from vote_api.store.health import Health, HealthCheck

_log = logs.get(__name__)

REFRESH_EVERY_S: Final = 1.0


class StoreWatch:
    """Refreshes campaigns and each server's health every second.

    Servers are judged one by one: voters whose shard lies on a sound one go on.
    """

    def __init__(
        self,
        nodes: StoreNodes,
        *,
        allow_weak_store: bool,
        attest_store: bool = False,
        backlog_bytes_max: int,
        store_folder: Path | None = None,
    ) -> None:
        self._nodes = nodes
        self._campaigns = KnownCampaigns(Store(nodes).documents)
        self._check = HealthCheck(
            replicated=nodes.replicated,
            allow_weak_store=allow_weak_store,
            attest_store=attest_store,
            backlog_bytes_max=backlog_bytes_max,
            store_folder=store_folder,
        )
        self._allow_weak_store = allow_weak_store
        self._health: dict[str, Health] = {}
        self._refreshing = asyncio.Lock()
        self._began_s = 0.0
        self._stale = False
        self.reasons: list[str] = ["the store has not been checked yet"]  # why likes are refused, or what is waived
        self._told: tuple[list[tuple[str, str]], bool] | None = None  # what was last logged, and of any server
        self.waived = False  # whether likes are taken although the promise is broken

    # ---- what is known ----------------------------------------------------------------------------------------------

    @property
    def all_durable(self) -> bool:
        """Whether every server answers and keeps the promise."""
        health = [self._health_of(node) for node in self._nodes.all()]
        return bool(health) and not any(found.away or found.not_durable for found in health)

    @property
    def attested(self) -> list[str]:
        """What the servers do not tell, and their operator stands for."""
        return [found for node in self._nodes.all() if (found := self._health_of(node).attested)]

    @property
    def ready(self) -> bool:
        """Whether any server may take likes now."""
        servers = (self._health_of(node) for node in self._nodes.all())
        return self._campaigns.loaded and any(not self._check.refusal(health) for health in servers)

    def document(self, campaign: str) -> Document:
        """A published campaign. Raises CampaignUnknown, or Unavailable before the first successful read."""
        return self._campaigns.document(campaign)

    def require(self, node: Node) -> None:
        """Raise what a voter is told if this server takes no likes: it is away, breaks its promise, or is full."""
        refusal = self._check.refusal(self._health_of(node))
        if refusal is not None:
            raise refusal

    # ---- looking ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Refresh for ever; a store that is down is logged once a change, and tried again."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_EVERY_S)

    async def refresh(self) -> None:
        """Read what changed. Never raises for a store that is down: the old knowledge stays, likes are refused.

        When rules change, every request of a batch asks at once: all that ask before a read begins share that read.
        """
        asked_s = time.monotonic()
        async with self._refreshing:
            if self._began_s < asked_s:
                self._began_s = time.monotonic()
                await self._look()
                self._judge()

    async def recheck(self, node: Node) -> None:
        """Check the promise now: a connection that opens may lead to a server that came back with other settings.

        Raises StoreUnsafe if it is broken and not waived, StoreError if the server is down.
        """
        await node.drop_idle()  # they may be as dead as the one that was lost
        await self._check.check_promise(node, self._health_of(node))
        self._judge()
        self.require(node)

    async def _look(self) -> None:
        stale: list[str] = []
        try:
            await self._nodes.refresh()
        except StoreError as error:
            stale.append(f"which server holds what: {error}")
        await asyncio.gather(
            *(self._check.look(node, self._health_of(node), self._streams_on(node)) for node in self._nodes.all())
        )
        try:
            await self._campaigns.read()
        except StoreError as error:
            stale.append(f"campaigns: {error}")
        if stale and not self._stale:
            _log.warning("the store could not be read again; the campaigns and servers known last stay", reasons=stale)
        self._stale = bool(stale)

    def _streams_on(self, node: Node) -> list[str]:
        shards = (shard for document in self._campaigns.taking_likes() for shard in document.rules.every_shard)
        return [stream for stream in map(keys.stream, shards) if self._nodes.holds(node, stream)]

    def _judge(self) -> None:
        servers = {node.address: self._health_of(node) for node in self._nodes.all()}
        reasons = _reasons(servers)
        # Without their numbers, which change every second while a store fills.
        kinds = [(address, kind(reason)) for address, health in servers.items() for reason in health.reasons]
        broken = any(health.not_durable and not health.away for health in servers.values())
        self.waived = self._allow_weak_store and self._campaigns.loaded and broken
        if (kinds, bool(servers)) != self._told:
            self._tell(servers)
        self.reasons, self._told = reasons, (kinds, bool(servers))
        metrics.STORE_SAFE.set(self.all_durable)
        metrics.STORE_ATTESTED.set(len(self.attested))

    def _tell(self, servers: Mapping[str, Health]) -> None:
        if not (reasons := _reasons(servers, named=True)):
            _log.info("likes are taken: the store keeps the promise")
        elif not servers or any(self._check.refusal(health) for health in servers.values()):
            _log.warning("likes are refused by the servers that are named", reasons=reasons)
        else:
            _log.warning("likes are taken although the promise is broken: DIANZAN_ALLOW_WEAK_STORE", reasons=reasons)

    def _health_of(self, node: Node) -> Health:
        health = self._health.get(node.address)  # asked for every like: no Health is made to be thrown away
        return health if health is not None else self._health.setdefault(node.address, Health())


def _reasons(servers: Mapping[str, Health], *, named: bool = False) -> list[str]:
    """What is wrong; with the server's address if there are several, or if it must be `named`."""
    if not servers:
        return ["no server of the cluster answers"]
    named = named or len(servers) > 1
    return [
        f"{address}: {reason}" if named else reason for address, health in servers.items() for reason in health.reasons
    ]
