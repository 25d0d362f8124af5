"""All connections of a process: those that time has run out for are closed, and the oldest idle ones give way."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from uvicorn.server import ServerState as UvicornState

from dianzan.domain.limits import ARRIVAL_S_MAX
from dianzan.process import logs

if TYPE_CHECKING:
    from dianzan.http.connection import Connection

_log = logs.get(__name__)

GIVE_WAY_SHARE: Final = 20  # of all connections one in so many at once: looking for the oldest looks at all


@dataclass(slots=True)
class _Seen:
    """What a connection was last seen at, and since when: no request of it pays for a look at the clock."""

    phase: int
    cycle: Any
    since_s: float


class ServerState(UvicornState):
    """What uvicorn's connections share, and a look at all of them together."""

    def __init__(self, keep_alive_s: float) -> None:
        super().__init__()
        self.draining = False  # whether this process is to end: each connection closes after its next answer
        self.lingering = False  # whether a connection on which nothing has come yet is waited for at the end
        self.arrival_s_max = ARRIVAL_S_MAX
        self.connections_max = 2**31
        self._keep_alive_s = keep_alive_s
        self._seen: dict[Connection, _Seen] = {}

    def add(self, connection: Connection, now_s: float) -> None:
        """Know one more connection; if there are too many, some that wait for nothing of ours are closed."""
        self._seen[connection] = _Seen(connection.phase, None, now_s)
        if len(self._seen) > self.connections_max:
            self._make_room()

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self._seen.pop(connection, None)

    def drain(self) -> None:
        """Have every connection closed after its next answer, those to come too."""
        self.draining = True
        for connection in self._seen:
            connection.drain()

    def sweep(self, now_s: float) -> None:
        """Close connections on which a request does not arrive in time, or on which no next one comes."""
        for connection, seen in list(self._seen.items()):
            if seen.phase != connection.phase or seen.cycle is not connection.cycle or _waits_for_us(connection):
                seen.phase, seen.cycle, seen.since_s = connection.phase, connection.cycle, now_s
            elif connection.flow.write_paused and connection.flow.read_paused:
                if now_s - seen.since_s >= self.arrival_s_max:  # it sends more and reads nothing
                    connection.end()
                    connection.transport.abort()
            elif connection.phase:
                if now_s - seen.since_s >= self.arrival_s_max:
                    connection.end()
            elif not connection.is_answering and now_s - seen.since_s >= self._keep_alive_s:
                connection.end()

    def _make_room(self) -> None:
        _log.warning("open files run out; the oldest idle connections are closed", connections_max=self.connections_max)
        idle = [
            (seen.since_s, number, connection)
            for number, (connection, seen) in enumerate(self._seen.items())
            if not connection.is_answering or connection.phase or connection.flow.write_paused
        ]
        for _since_s, _number, connection in heapq.nsmallest(1 + len(self._seen) // GIVE_WAY_SHARE, idle):
            connection.end()
            connection.transport.abort()  # not after what it has not read
            self.remove(connection)


def _waits_for_us(connection: Connection) -> bool:
    """Whether it is read no further because of an answer that we owe it, and could write."""
    return connection.flow.read_paused and not connection.flow.write_paused
