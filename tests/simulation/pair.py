"""A primary and its one replica: asynchronous replication, resynchronisation, failover, and a deposed primary."""

from __future__ import annotations

from random import Random

from tests.simulation.loop import SimLoop
from tests.simulation.network import Network
from tests.simulation.store_server import Server

MISSED_S = 3.0  # until a primary misses its replica, at most
LEARNS_S = 2.0  # until a deposed primary that can be reached learns that it is
FULL_SYNC_S = 0.3


class Pair:
    """Two servers that hold the same shards; `primary` is the one the rest of the cluster agrees on."""

    def __init__(self, one: Server, other: Server, loop: SimLoop, network: Network, rng: Random) -> None:
        self._loop, self._network, self._random = loop, network, rng.random
        self.primary, self.replica = one, other
        self.link = network.link(one.name, other.name)
        self._shipping = False
        self._in_sync = False  # whether the replica's data is that of the primary, some time ago
        self._attempt = 0
        for server in (one, other):
            server.on_write = self._ship
            server.on_crash = self._crashed
        other.primary, other.primary_address = False, one.name
        self.attach()

    @property
    def linked(self) -> bool:
        """Whether a message between the two can arrive."""
        return self.primary.up and self.replica.up and not self.link.cut

    @property
    def settled(self) -> bool:
        """Whether the replica holds all that the primary does, and the primary knows."""
        return self.linked and self.primary.attached and self.primary.acked_disk == len(self.primary.log)

    # ---- replication ------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """The replica asks the primary for what it lacks; all of it where their histories differ."""
        self._attempt += 1
        if not self.linked or self.replica.primary:
            return
        held = len(self.replica.log)
        log = self.primary.log
        partial = held <= len(log) and (held == 0 or self.replica.log[held - 1] is log[held - 1])
        delay = 0.002 if partial else FULL_SYNC_S * self._random()
        self._loop.later(delay, self._attached, self._attempt, partial)

    def _attached(self, attempt: int, partial: bool) -> None:
        if attempt != self._attempt or not self.linked or self.replica.primary:
            return
        if not partial:
            self.replica.log.clear()
            self.replica.data.clear()
        self.replica.note(self.replica.name, "in sync" if partial else "replaced")
        self.replica.take(self.primary.log[len(self.replica.log) :])
        self.replica.synced = len(self.replica.log)
        self._in_sync = True
        self.primary.attached = True
        self.primary.acked = self.primary.acked_disk = 0
        self._acknowledge()
        self._ship()

    def _ship(self) -> None:
        """Send what the replica lacks, a moment later, and all that is written until then."""
        if self._in_sync and not self._shipping and not self.replica.primary:
            self._shipping = True
            delay = self._network.delay(self.link)
            self._loop.later(0.01 if delay is None else delay, self._shipped, self._attempt)

    def _shipped(self, attempt: int) -> None:
        self._shipping = False
        if attempt != self._attempt or not self.linked or not self._in_sync or self.replica.primary:
            return
        self.replica.take(self.primary.log[len(self.replica.log) :])
        if self._random() < 0.7:
            self.replica.synced = len(self.replica.log)
        else:
            self._loop.later(0.003 * self._random(), self._sync_replica, attempt, self.replica.epoch)
        self._acknowledge()

    def _sync_replica(self, attempt: int, epoch: int) -> None:
        if attempt == self._attempt and epoch == self.replica.epoch:
            self.replica.synced = len(self.replica.log)
            self._acknowledge()

    def _acknowledge(self) -> None:
        delay = self._network.delay(self.link)
        if delay is not None:
            held = len(self.replica.log), self.replica.synced
            self._loop.later(delay, self._acknowledged, self._attempt, held)

    def _acknowledged(self, attempt: int, held: tuple[int, int]) -> None:
        if attempt == self._attempt and self.linked and self.primary.attached:
            self.primary.confirm(*held)
            if len(self.replica.log) < len(self.primary.log):
                self._ship()

    # ---- faults -----------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cut the link; the primary believes in its replica until it misses it."""
        self.link.cut = True
        self._detach_later(self.primary)

    def mend(self) -> None:
        """The link carries again."""
        self.link.cut = False
        if self._deposed is not None:
            self._loop.later(LEARNS_S * self._random() / 4, self._learn, self._deposed)
        else:
            self.attach()

    def _detach_later(self, primary: Server) -> None:
        epoch = primary.epoch
        self._loop.later(MISSED_S * self._random(), self._detach, primary, epoch)

    def _detach(self, primary: Server, epoch: int) -> None:
        if primary.epoch == epoch and not (self.linked and primary is self.primary):
            primary.attached = False

    def _crashed(self) -> None:
        """One of the two has died. A replica that has started anew is not promoted before it is in step."""
        self._attempt += 1
        self._shipping = False
        if not self.replica.up:
            self._in_sync = False
            self._detach_later(self.primary)

    def restart(self, server: Server) -> None:
        """A dead server comes back, in the belief it died with."""
        if server.up:
            return
        server.restart()
        if server is self._deposed:
            self._loop.later(LEARNS_S * self._random(), self._learn, server)
        else:
            self.attach()

    # ---- failover ---------------------------------------------------------------------------------------------------

    _deposed: Server | None = None  # an old primary that does not know yet

    @property
    def may_fail_over(self) -> bool:
        """Whether the cluster may promote the replica."""
        return self._in_sync and self.replica.up and not self.replica.primary

    def fail_over(self) -> None:
        """Promote the replica. The old primary, where it lives, serves its clients until it learns of it."""
        self.replica.note(self.replica.name, "promoted", len(self.primary.log) - len(self.replica.log))
        old, new = self.primary, self.replica
        self._attempt += 1
        self._shipping = self._in_sync = False
        new.primary, new.primary_address, new.attached = True, new.name, False
        new.acked = new.acked_disk = 0
        new.histories += 1
        self.primary, self.replica = new, old
        self._deposed = old
        self._detach_later(old)
        if not self.link.cut:
            self._loop.later(LEARNS_S * self._random(), self._learn, old)

    def _learn(self, server: Server) -> None:
        if server is not self._deposed or not server.up or self.link.cut:
            return
        self._deposed = None
        server.primary, server.primary_address, server.attached = False, self.primary.name, False
        server.unblock()
        self.attach()
