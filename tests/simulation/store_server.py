"""A simulated Redis/Valkey server: commands in order, an append-only file, a replica, WAIT, and crashes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from random import Random
from typing import Any

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import MovedError, ResponseError

from dianzan.domain import wire
from dianzan.store.durability import DURABLE_SETTINGS
from tests.simulation.library import library
from tests.simulation.loop import SimLoop
from tests.simulation.network import Answer
from tests.simulation.store_data import MAY_WRITE_NOTHING, READS, WRITES, Command, Record, Stream, apply

SYNC_EVERY_S = 0.1  # of `everysec`, shortened like the waits of patches.py
PAUSE_SHARE = 0.1  # of the places between two commands of a pipeline: others' commands come between
STREAM_ID_MS = 200  # a coarse clock for ids, so that after a failover two entries wear the same one

Like = tuple[int, int, bytes]  # window day, candidate, voter


class Session:
    """One connection, as its server knows it."""

    __slots__ = ("deaf_to_touch", "written")

    def __init__(self, *, deaf_to_touch: bool = False) -> None:
        self.written = 0  # the log's length after this connection's last write; what WAIT waits for
        self.deaf_to_touch = deaf_to_touch  # a control: as if it had written no touch


class Waiting:
    """A connection that WAIT or WAITAOF holds."""

    __slots__ = ("disk", "done", "go_on", "written")

    def __init__(self, written: int, disk: bool, go_on: Callable[[bool | None], None]) -> None:
        self.written, self.disk, self.go_on = written, disk, go_on
        self.done = False

    def end(self, met: bool | None) -> None:
        """Go on, once: confirmed, not confirmed, or None where the server died."""
        if not self.done:
            self.done = True
            self.go_on(met)


def _nothing(*_told: object) -> None:
    """Nobody listens."""


class Server:
    """One server. `log` is its append-only file and the stream to its replica in one; `data` is what the log makes."""

    def __init__(self, name: str, loop: SimLoop, rng: Random, *, broken: Collection[str] = ()) -> None:
        self.name, self._loop, self._random = name, loop, rng.random
        self._everysec = "everysec" in broken
        self._expires = "marks-expire" in broken
        self.waitaof = True
        self.clock_ms = 0  # how far its clock is off
        self.stream_id_ms = STREAM_ID_MS
        self.clustered = True  # otherwise its replica may be read
        self.data: dict[bytes, Any] = {}
        self.log: list[Record] = []
        self.synced = 0  # records that a power cut leaves
        self._syncing = False
        self._written: list[Command] = []
        self.up, self.epoch = True, 0
        self.histories = 0  # that it has begun: another one when it is promoted
        self.fuse, self.moment = 0, ""  # commands until it crashes, and when: before, unsynced or synced
        self.on_crash: Callable[[], None] = _nothing
        self.note: Callable[..., None] = _nothing  # adds to the history
        # Replication, steered by pair.py.
        self.primary = True
        self.primary_address = name  # who it believes takes the writes
        self.attached = False  # whether it believes that its replica is there
        self.acked = self.acked_disk = 0
        self.on_write: Callable[[], None] = _nothing
        self._waiting: list[Waiting] = []

    def preload(self, records: Sequence[Record]) -> None:
        """Begin with these."""
        self.take(records)
        self.synced = len(self.log)

    # ---- what commands do -------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """This server's clock in Unix milliseconds."""
        return self._loop.now_ms() + self.clock_ms

    def run(self, command: Command, *, reads_only: bool = False) -> Any:
        """Run one command of a client or of a function, and log it where it writes."""
        name, *args = command
        if name == b"TIME":
            seconds, micros = divmod(self.now_ms() * 1000, 1_000_000)
            return [b"%d" % seconds, b"%d" % micros]
        if name in READS:
            return READS[name](self.data, *args)
        if reads_only:
            raise ResponseError("Write commands are not allowed from read-only scripts.")
        if name == b"XADD":  # `MAXLEN ~ n` before the star removes nothing: a server does so by nodes of 100 entries
            args = [args[0], self._next_id(args[0]), *args[args.index(b"*") + 1 :]]
        reply = WRITES[name](self.data, *args)
        if reply != 0 or name not in MAY_WRITE_NOTHING:
            self._written.append((name, *args))
        return reply

    def _next_id(self, stream: bytes) -> bytes:
        """An id greater than every one before, by a coarse clock."""
        found: Stream | None = self.data.get(stream)
        ms, sequence = found.last if found else (0, 0)
        now = self.now_ms() // self.stream_id_ms * self.stream_id_ms
        return b"%d-%d" % ((now, 0) if now > ms else (ms, sequence + 1))

    # ---- commands ---------------------------------------------------------------------------------------------------

    def receive(self, session: Session, commands: Sequence[Sequence[bytes]], answer: Answer) -> None:
        """Run a pipeline. Other connections' commands come between its own."""
        if self.up:
            self._run(session, commands, [], answer)
        else:
            answer(Disconnected("Connection refused"))

    def _run(self, session: Session, commands: Sequence[Sequence[bytes]], replies: list[Any], answer: Answer) -> None:
        while len(replies) < len(commands):
            command = commands[len(replies)]
            if command[0] in (b"WAIT", b"WAITAOF"):
                self._wait(session, commands, replies, answer)
                return
            replies.append(self._execute(session, command))
            if self.fuse and self._crashes():
                answer(Disconnected("Connection closed by server."))
                return
            if len(replies) < len(commands) and self._random() < PAUSE_SHARE:
                self._sync()
                self._loop.later(0.001 * self._random(), self._resume, session, commands, replies, answer, self.epoch)
                return
        self._sync()
        answer(replies)

    def _resume(
        self, session: Session, commands: Sequence[Sequence[bytes]], replies: list[Any], answer: Answer, epoch: int
    ) -> None:
        if self.epoch == epoch:
            self._run(session, commands, replies, answer)
        else:
            answer(Disconnected("Connection closed by server."))

    def _execute(self, session: Session, command: Sequence[bytes]) -> Any:
        name, *args = command
        local = self._local(name, args)
        if local is not None:
            return local
        if not self.primary and name not in ((b"TIME", b"SCAN") if self.clustered else READS):
            return MovedError(f"1 {self.primary_address}:6379")
        try:
            reply = self._call(name, args) if name in (b"FCALL", b"FCALL_RO") else self.run(command)
        except ResponseError as error:
            reply = error
        if self._written:
            self.note(self.name, name.decode(), *args[: 1 if name == b"PFADD" else 3])  # voters of a set: in no order
            self._log(session, touched=name == b"INCR")
        return reply

    def _call(self, name: bytes, args: Sequence[bytes]) -> Any:
        function, count, *rest = args
        keys, given = rest[: int(count)], rest[int(count) :]
        return library().call(self.run, function, keys, given, reads_only=name == b"FCALL_RO")

    def _log(self, session: Session, *, touched: bool) -> None:
        self.log.append(tuple(self._written))
        if self._expires and not touched:
            self._loop.later(1.0, self._expire, [c for c in self._written if c[0] == b"HSET" and b":m:" in c[1]])
        self._written = []
        if not (touched and session.deaf_to_touch):
            session.written = len(self.log)

    def _expire(self, marks: Sequence[Any]) -> None:
        for _name, key, field, _value in marks:
            self.data.get(key, {}).pop(field, None)

    def _local(self, name: bytes, args: Sequence[bytes]) -> Any:
        """Commands that every server answers about itself."""
        if name == b"INFO":
            return self._info(args[0])
        if name == b"CONFIG":
            return [part.encode() for pair in DURABLE_SETTINGS.items() for part in pair]
        if name == b"FCALL_RO" and args[1] == b"0":
            return self._call(name, args)
        return self.primary_address if name == b"PRIMARY" else None

    def _info(self, section: bytes) -> bytes:
        lines: dict[str, object] = {
            "role": "master" if self.primary else "slave",
            "connected_slaves": int(self.attached),
            "master_replid": f"{self.name}-{self.histories}",
        }
        if section == b"server":
            lines = {"redis_version": "7.2.4" if self.waitaof else "7.0.15", "run_id": f"{self.name}-{self.epoch}"}
        elif section == b"memory":
            lines = {"maxmemory": 1000, "used_memory": 100, "total_system_memory": 1000}
        elif self.attached:
            lines["slave0"] = "state=online,lag=0"
        return "".join(f"{name}:{value}\r\n" for name, value in lines.items()).encode()

    # ---- the disk ---------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        if self.synced == len(self.log):
            return
        if not self._everysec:
            self.synced = len(self.log)
        elif not self._syncing:
            self._syncing = True
            self._loop.later(SYNC_EVERY_S, self._sync_later, self.epoch)
        self.on_write()

    def _sync_later(self, epoch: int) -> None:
        if epoch == self.epoch:
            self.synced, self._syncing = len(self.log), False
            self.confirm(0, 0)

    def _crashes(self) -> bool:
        self.fuse -= 1
        if self.fuse:
            return False
        if self.moment == "synced":
            self._sync()
        self.crash()
        return True

    def crash(self) -> None:
        """The process dies, and what its disk does not hold is lost."""
        self.note(self.name, "crash", self.synced, len(self.log))
        self.up, self.fuse = False, 0
        self.epoch += 1
        del self.log[self.synced :]
        self._syncing = False
        self.data, self._written = {}, []
        apply(self.data, self.log)
        self.attached = False
        waiting, self._waiting = self._waiting, []
        for held in waiting:
            held.end(None)
        self.on_crash()

    def restart(self) -> None:
        """Come back with what the disk holds."""
        self.up = True
        self.acked = self.acked_disk = 0

    def wipe(self) -> None:
        """Lose the disk."""
        self.log.clear()
        self.synced = 0
        self.crash()

    def waiting(self, stream: bytes) -> Iterator[Like]:
        """Every like in a stream, seen from outside."""
        found: Stream | None = self.data.get(stream)
        for entry_id, fields in found.entries.items() if found else ():
            entry = wire.unpack_entry(entry_id, dict(zip(fields[::2], fields[1::2], strict=True)))
            for ballot in entry.ballots:
                for candidate in ballot.candidates:
                    yield entry.window_day, candidate, ballot.voter

    # ---- the replica ------------------------------------------------------------------------------------------------

    def take(self, records: Sequence[Record]) -> None:
        """Take records from the primary."""
        apply(self.data, records)
        self.log.extend(records)

    def confirm(self, memory: int, disk: int) -> None:
        """The replica says how much it holds."""
        self.acked, self.acked_disk = max(self.acked, memory), max(self.acked_disk, disk)
        met = [held for held in self._waiting if self._holds(held.written, held.disk)]
        self._waiting = [held for held in self._waiting if held not in met]
        for held in met:
            held.end(True)

    def unblock(self) -> None:
        """It is a replica now: connections that wait are told, and closed."""
        waiting, self._waiting = self._waiting, []
        for held in waiting:
            held.end(None)

    def _holds(self, written: int, disk: bool) -> bool:
        if not self.attached:
            return False
        return (self.acked_disk >= written and self.synced >= written) if disk else self.acked >= written

    def _wait(self, session: Session, commands: Sequence[Sequence[bytes]], replies: list[Any], answer: Answer) -> None:
        self._sync()
        name, *args = commands[len(replies)]
        disk, written, epoch = name == b"WAITAOF", session.written, self.epoch

        def go_on(met: bool | None) -> None:
            if met is None:
                answer(Disconnected("Connection closed by server."))
                return
            replies.append([1, int(met)] if disk else int(met))
            self._resume(session, commands, replies, answer, epoch)

        if not self.primary:
            replies.append(ResponseError("WAIT cannot be used with replica instances."))
            self._resume(session, commands, replies, answer, epoch)
        elif self._holds(written, disk):
            go_on(True)
        else:
            held = Waiting(written, disk, go_on)
            self._waiting.append(held)
            self._loop.later(int(args[-1]) / 1000, held.end, False)
