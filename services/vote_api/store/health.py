"""Whether a store server may take likes: that it answers, keeps the promise, and has room."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client import Gauge

from dianzan.domain.errors import (
    ClockSkewed,
    NoRoom,
    StoreAway,
    StoreError,
    StoreUnavailable,
    StoreUnsafe,
    StoreUntold,
    Unavailable,
)
from dianzan.domain.limits import CLOCK_SKEW_MS_MAX, STORE_FULL_SHARE
from dianzan.domain.windows import now_ms
from dianzan.process import metrics
from dianzan.store import durability
from dianzan.store.nodes import Node

DURABILITY_EVERY_S: Final = 10.0
_ATTESTED: Final = "attested by DIANZAN_ATTEST_STORE:"


@dataclass(slots=True)
class Health:
    """What the last looks at one server have found; a server nobody has looked at is away."""

    away: str = "has not been checked yet"  # why it does not answer, empty if it does
    not_durable: list[str] = field(default_factory=list)  # promises it does not keep
    full: str = ""  # what there is too much of, empty if there is room
    skewed: str = ""  # by how much this process's clock and the server's differ, empty if they agree
    attested: str = ""  # what the server does not tell and its operator stands for, empty if it tells all
    checked_s: float = float("-inf")

    @property
    def reasons(self) -> list[str]:
        """Why likes are refused, or what is waived, one sentence each."""
        found = [f"the store {self.away}"] if self.away else self.not_durable
        return [reason for reason in (*found, self.full, self.skewed) if reason]


class HealthCheck:
    """Looks at servers: their room every time, their promise every ten seconds and after each disturbance."""

    def __init__(
        self,
        *,
        replicated: bool,
        allow_weak_store: bool,
        attest_store: bool = False,
        backlog_bytes_max: int,
        store_folder: Path | None,
    ) -> None:
        """`store_folder` lies on the store's disk, if this process can see it.

        `attest_store`: what a server does not tell is taken as its operator says: set as the promise needs.
        """
        self._attest_store = attest_store
        self._replicated, self._allow_weak_store = replicated, allow_weak_store
        self._backlog_bytes_max, self._store_folder = backlog_bytes_max, store_folder

    def refusal(self, health: Health) -> Unavailable | None:
        """What a voter is told if this server takes no likes: it is away, breaks its promise, or is full."""
        if health.away:
            return StoreUnavailable("The store does not answer; nothing was counted. Ask again.")
        if health.not_durable and not self._allow_weak_store:
            return StoreUnsafe("The store does not keep the promise now, so nothing is counted; ask again.")
        if health.full:
            return NoRoom("The store is nearly full; nothing was counted. Ask again.")
        if health.skewed:
            return ClockSkewed("This server's clock and the store's differ; nothing was counted. Ask again.")
        return None

    async def look(self, node: Node, health: Health, streams: Sequence[str]) -> None:
        """Renew what is known of a server, on which these streams lie. Never raises for one that is down.

        A server that is back may have come back with other settings, so its promise is checked at once.
        """
        try:
            if health.away or health.not_durable or time.monotonic() - health.checked_s >= DURABILITY_EVERY_S:
                await self.check_promise(node, health)
            health.skewed = await _skew(node)
            health.full = await self._fullness(node, health, streams)
        except StoreAway as error:
            health.away = f"does not answer: {error.__cause__ or error} ({error.reason})"
        except StoreError as error:
            health.away = f"answers with a refusal: {error}"

    def _untold(self, health: Health, error: StoreUntold) -> None:
        if self._attest_store:
            if not health.attested:
                health.attested = f"{_ATTESTED} {error}"
            elif str(error) not in health.attested:
                health.attested += f"; {error}"
        else:
            advice = "allow it to this user, or attest the store's settings by DIANZAN_ATTEST_STORE=true"
            untold = f"{error}: {advice}"
            health.not_durable = [*(gap for gap in health.not_durable if gap != untold), untold]

    async def check_promise(self, node: Node, health: Health) -> None:
        """Renew whether a server keeps the promise. Raises StoreError if it does not answer."""
        health.attested = ""
        try:
            health.not_durable = await durability.durability_gaps(node.client, replicated=self._replicated)
        except StoreUntold as error:
            health.not_durable = error.gaps
            self._untold(health, error)
        health.away, health.checked_s = "", time.monotonic()

    async def _fullness(self, node: Node, health: Health, streams: Sequence[str]) -> str:
        """What there is too much of: memory, disk, or likes that wait for the ledger. Empty if there is room.

        What the server may not tell does not hide the rest.
        """
        room = await durability.room(node.client, streams)
        if room.untold:
            self._untold(health, StoreUntold(room.untold))
        _show(metrics.STORE_MEMORY_SHARE, node, room.memory)
        _show(metrics.BACKLOG_BYTES, node, room.backlog)
        if room.memory is not None and room.memory >= STORE_FULL_SHARE:
            return f"{room.memory:.0%} of the store's memory is used: {STORE_FULL_SHARE:.0%} is the most"
        if room.backlog is not None and room.backlog >= self._backlog_bytes_max:
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


def _show(gauge: Gauge, node: Node, value: float | None) -> None:
    """What is not told has no number: 0 would be one."""
    if value is None:
        gauge.remove_by_labels({"server": node.address})
    else:
        gauge.labels(node.address).set(value)


async def _skew(node: Node) -> str:
    """By how much the clocks differ, beyond what the store takes; the time on the way counts for neither."""
    asked_ms = now_ms()
    server_ms = await durability.clock_ms(node.client)
    ahead_ms = max(asked_ms - server_ms, 0) - max(server_ms - now_ms(), 0)
    if abs(ahead_ms) <= CLOCK_SKEW_MS_MAX:
        return ""
    direction = "ahead of" if ahead_ms > 0 else "behind"
    return f"this process's clock is {abs(ahead_ms) / 1000:.0f} s {direction} the store's: set the one that is wrong"
