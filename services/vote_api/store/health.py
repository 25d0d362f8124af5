"""Whether a store server may take likes: that it answers, keeps the promise, and has room."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dianzan.domain.errors import NoRoom, StoreError, StoreUnavailable, StoreUnsafe
from dianzan.domain.limits import STORE_FULL_SHARE
from dianzan.process import metrics
from dianzan.store import durability
from dianzan.store.nodes import Node

DURABILITY_EVERY_S: Final = 10.0


@dataclass(slots=True)
class Health:
    """What the last looks at one server have found; a server nobody has looked at is away."""

    away: str = "has not been checked yet"  # why it does not answer, empty if it does
    not_durable: list[str] = field(default_factory=list)  # promises it does not keep
    full: str = ""  # what there is too much of, empty if there is room
    checked_s: float = float("-inf")

    @property
    def reasons(self) -> list[str]:
        """Why likes are refused, or what is waived, one sentence each."""
        found = [f"the store {self.away}"] if self.away else self.not_durable
        return [reason for reason in (*found, self.full) if reason]


class HealthCheck:
    """Looks at servers: their room every time, their promise every ten seconds and after each disturbance."""

    def __init__(
        self, *, replicated: bool, allow_weak_store: bool, backlog_bytes_max: int, store_folder: Path | None
    ) -> None:
        """`store_folder` lies on the store's disk, if this process can see it."""
        self._replicated, self._allow_weak_store = replicated, allow_weak_store
        self._backlog_bytes_max, self._store_folder = backlog_bytes_max, store_folder

    def refusal(self, health: Health) -> StoreUnavailable | StoreUnsafe | NoRoom | None:
        """What a voter is told if this server takes no likes: it is away, breaks its promise, or is full."""
        if health.away:
            return StoreUnavailable("The store does not answer; nothing was counted. Ask again.")
        if health.not_durable and not self._allow_weak_store:
            return StoreUnsafe("The store does not keep the promise now, so nothing is counted; ask again.")
        if health.full:
            return NoRoom("The store is nearly full; nothing was counted. Ask again.")
        return None

    async def look(self, node: Node, health: Health, streams: Sequence[str]) -> None:
        """Renew what is known of a server, on which these streams lie. Never raises for one that is down.

        A server that is back may have come back with other settings, so its promise is checked at once.
        """
        try:
            if health.away or health.not_durable or time.monotonic() - health.checked_s >= DURABILITY_EVERY_S:
                await self.check_promise(node, health)
            health.full = await self._fullness(node, streams)
        except StoreError as error:
            health.away = f"does not answer: {error.reason}"

    async def check_promise(self, node: Node, health: Health) -> None:
        """Renew whether a server keeps the promise. Raises StoreError if it does not answer."""
        health.not_durable = await durability.durability_gaps(node.client, replicated=self._replicated)
        health.away, health.checked_s = "", time.monotonic()

    async def _fullness(self, node: Node, streams: Sequence[str]) -> str:
        """What there is too much of: memory, disk, or likes that wait for the ledger. Empty if there is room."""
        room = await durability.room(node.client, streams)
        metrics.STORE_MEMORY_SHARE.labels(node.address).set(room.memory)
        metrics.BACKLOG_BYTES.labels(node.address).set(room.backlog)
        if room.memory >= STORE_FULL_SHARE:
            return f"{room.memory:.0%} of the store's memory is used: {STORE_FULL_SHARE:.0%} is the most"
        if room.backlog >= self._backlog_bytes_max:
            return f"{room.backlog} bytes wait for the ledger: {self._backlog_bytes_max} is the most"
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
