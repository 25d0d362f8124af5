"""What the vote API knows of the store: the published campaigns, and of each server whether it may take likes."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError

from dianzan.domain.campaign import Document
from dianzan.domain.errors import CampaignUnknown, Overloaded, StoreError, StoreUnavailable, StoreUnsafe, Unavailable
from dianzan.domain.limits import STORE_FULL_SHARE
from dianzan.process import logs, metrics
from dianzan.store import durability, keys
from dianzan.store.nodes import Node, StoreNodes
from dianzan.store.vote_store import VoteStore

_log = logs.get(__name__)

REFRESH_EVERY_S = 1.0
PROMISE_EVERY_S = 10.0
AWAY = (RedisError, OSError, TimeoutError)


@dataclass(slots=True)
class Health:
    """What the last looks at one server have found; a server nobody has looked at is away."""

    away: str = "has not been checked yet"  # why it does not answer, empty where it does
    broken: list[str] = field(default_factory=list)  # promises it does not keep
    full: str = ""  # what there is too much of, empty where there is room
    checked_s: float = float("-inf")


class StoreWatch:
    """Refreshes campaigns and each server's room every second, the check of its promise every ten.

    While a server is down the last campaigns go on being known, so that likes are answered 503 rather than 404; its
    promise is checked again as soon as it is back, since it may have come back with other settings. Servers are judged
    one by one: voters whose shard lies on a sound one go on.
    """

    def __init__(
        self,
        nodes: StoreNodes,
        *,
        allow_weak_store: bool,
        backlog_bytes_max: int,
        store_folder: Path | None = None,
    ) -> None:
        """`store_folder` lies on the store's disk, where this process can see it."""
        self._nodes, self._store = nodes, VoteStore(nodes)
        self._allow_weak_store = allow_weak_store
        self._backlog_bytes_max = backlog_bytes_max
        self._store_folder = store_folder
        self._documents: dict[str, Document] = {}
        self._loaded = False
        self._health: dict[str, Health] = {}
        self._refreshing = asyncio.Lock()
        self._began_s = 0.0
        self._stale = False
        self.reasons: list[str] = ["the store has not been checked yet"]  # why likes are refused, or what is waived
        self.waived = False  # whether likes are taken although the promise is broken

    # ---- what is known ----------------------------------------------------------------------------------------------

    @property
    def kept(self) -> bool:
        """Whether every server answers and keeps the promise."""
        health = [self._health.get(node.address, Health()) for node in self._nodes.all()]
        return bool(health) and not any(found.away or found.broken for found in health)

    @property
    def ready(self) -> bool:
        """Whether any server may take likes now."""
        return self._loaded and any(not self._refusal(node) for node in self._nodes.all())

    def document(self, campaign: str) -> Document:
        """A published campaign. Raises CampaignUnknown, or Unavailable before the first successful read."""
        try:
            return self._documents[campaign]
        except KeyError:
            if not self._loaded:
                raise Unavailable("The campaigns have not been read from the store yet; ask again.") from None
            raise CampaignUnknown(f"No campaign {campaign[:40]!r} is published here.") from None

    def require(self, node: Node) -> None:
        """Raise what a voter is told where this server takes no likes: away, a broken promise, or full."""
        refusal = self._refusal(node)
        if refusal is not None:
            raise refusal

    def _refusal(self, node: Node) -> StoreUnavailable | StoreUnsafe | Overloaded | None:
        health = self._health.get(node.address)
        if health is None or health.away:
            return StoreUnavailable("The store does not answer; nothing was counted. Ask again.")
        if health.broken and not self._allow_weak_store:
            return StoreUnsafe("The store does not keep the promise now, so nothing is counted; ask again.")
        if health.full:
            return Overloaded("The store is nearly full; nothing was counted. Ask again.")
        return None

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

        Raises StoreUnsafe where it is broken and not waived, redis.RedisError where the server is down.
        """
        # Idle connections may be as dead as the one that was lost, or lead to the server that was there before.
        await node.client.connection_pool.disconnect(inuse_connections=False)
        await self._check_promise(node, self._health.setdefault(node.address, Health()))
        self._judge()
        self.require(node)

    async def _look(self) -> None:
        stale: list[str] = []
        try:
            await self._nodes.refresh()
        except AWAY as error:
            stale.append(f"which server holds what: {error}")
        await asyncio.gather(*(self._look_at(node) for node in self._nodes.all()))
        try:
            await self._read_documents()
        except AWAY as error:
            stale.append(f"campaigns: {type(error).__name__}: {error}")
        if stale and not self._stale:
            _log.warning("what is known of the store is not read anew", reasons=stale)
        self._stale = bool(stale)

    async def _look_at(self, node: Node) -> None:
        health = self._health.setdefault(node.address, Health())
        try:
            if health.away or health.broken or time.monotonic() - health.checked_s >= PROMISE_EVERY_S:
                await self._check_promise(node, health)
            health.full = await self._fullness(node)
        except AWAY as error:
            health.away = f"does not answer: {type(error).__name__}"

    async def _check_promise(self, node: Node, health: Health) -> None:
        health.broken = await durability.broken_promises(node.client, replicated=self._nodes.replicated)
        health.away, health.checked_s = "", time.monotonic()

    async def _fullness(self, node: Node) -> str:
        """What there is too much of: memory, disk, or likes that wait for the ledger. Empty where there is room."""
        streams = [
            name
            for document in self._documents.values()
            if not document.state.is_over
            for name in (keys.stream(document.rules.id, shard) for shard in range(document.rules.shards))
            if self._nodes.holds(node, name)
        ]
        found = await durability.room(node.client, streams)
        metrics.STORE_MEMORY_SHARE.labels(node.address).set(found.memory)
        metrics.BACKLOG_BYTES.labels(node.address).set(found.backlog)
        if found.memory >= STORE_FULL_SHARE:
            return f"{found.memory:.0%} of the store's memory is used: {STORE_FULL_SHARE:.0%} is the most"
        if found.backlog >= self._backlog_bytes_max:
            return f"{found.backlog} bytes wait for the ledger: {self._backlog_bytes_max} is the most"
        return self._disk_fullness()

    def _disk_fullness(self) -> str:
        if self._store_folder is None:
            return ""
        disk = shutil.disk_usage(self._store_folder)
        share = disk.used / (disk.used + disk.free)
        metrics.STORE_DISK_SHARE.set(share)
        if share < STORE_FULL_SHARE:
            return ""
        return f"{share:.0%} of the store's disk is used: {STORE_FULL_SHARE:.0%} is the most"

    def _judge(self) -> None:
        reasons = self._reasons()
        answering = [self._health[node.address] for node in self._nodes.all() if node.address in self._health]
        self.waived = self._allow_weak_store and self._loaded and any(h.broken and not h.away for h in answering)
        if reasons != self.reasons:
            _log.warning("what the store promises has changed", reasons=reasons, waived=self.waived)
        self.reasons = reasons
        metrics.STORE_SAFE.set(self.kept)

    def _reasons(self) -> list[str]:
        health = {node.address: self._health.get(node.address, Health()) for node in self._nodes.all()}
        if not health:
            return ["no server of the cluster answers"]
        named = len(health) > 1
        return [
            f"{address}: {reason}" if named else reason
            for address, found in health.items()
            for reason in (*([f"the store {found.away}"] if found.away else found.broken), found.full)
            if reason
        ]

    async def _read_documents(self) -> None:
        # A campaign that is gone from the list stays known: none is ever taken off it, so the store has lost it, and
        # its voters are to ask again (the shards have no gates) rather than to hear that there is no such campaign.
        for campaign, version in (await self._store.versions()).items():
            known = self._documents.get(campaign)
            if known is None or known.version != version:
                await self._read_document(campaign)
        self._loaded = True

    async def _read_document(self, campaign: str) -> None:
        try:
            document = await self._store.document(campaign)
        except StoreError as error:
            # One campaign's problem: the shards refuse its older rules, and every other campaign goes on.
            _log.warning("a campaign's document is not understood; the last one stays", reason=str(error))
            return
        if document is not None:
            self._documents[campaign] = document
            metrics.CAMPAIGN_VERSION.labels(campaign).set(document.version)
