"""Owns the embedded PostgreSQL with a synchronous standby: nothing is committed before both have it on disk.

Who is primary is settled by the folders: nothing here promotes a standby by itself. Where the standby may hold what the
primary does not, neither starts before the operator has put it in the primary's place.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import asyncpg

from dianzan.local.folder import HOST, USER, EmbeddedError, database_url, read_password, sync_folder, write_private
from dianzan.local.postgres import PostgresServer
from dianzan.local.processes import POLL_S, Account
from dianzan.local.server import CONNECT_S_MAX

STANDBY: Final = "dianzan_standby"  # the name by which the primary knows it
COPY_S_MAX: Final = 3_600.0  # 0.5 s for a new ledger, minutes for 100 GB
PROMOTE_S_MAX: Final = 60.0  # replays what it has received, then writes a checkpoint
IN_STEP_S_MAX: Final = 60.0  # the standby replays and connects; 0.2 s is usual

# Commits wait for the standby however long it is away, so little can be written meanwhile that it would miss.
# A standby that hangs is given up in time for the primary to end within its STOP_S_MAX.
PRIMARY_CONF: Final = """\
synchronous_standby_names = '{standby}'
wal_keep_size = 512MB
wal_sender_timeout = 10s
"""
STANDBY_CONF: Final = """\
hot_standby = on
primary_conninfo = 'host={host} port={port} user={user} password={password} application_name={standby} sslmode=disable'
wal_receiver_timeout = 10s
wal_retrieve_retry_interval = 200ms
"""
_STATE: Final = "SELECT state || ', ' || sync_state FROM pg_stat_replication WHERE application_name = $1"
_IN_STEP: Final = "streaming, sync"


class SynchronousPostgres(PostgresServer):
    """A primary that commits nothing before its standby has it on disk; without one every commit waits."""

    def _settings(self) -> str:
        return super()._settings() + PRIMARY_CONF.format(standby=STANDBY)

    def standby_state(self) -> str | None:
        """What this primary says of its standby, None if it is not connected.

        Raises OSError or asyncpg.PostgresError where the primary does not answer.
        """
        with ThreadPoolExecutor(1) as pool:  # a thread of its own, since the caller may be inside an event loop
            return pool.submit(asyncio.run, _standby_state(database_url(self.folder))).result()


class PostgresStandby(PostgresServer):
    """A copy of a running primary, made at the first start, which then receives every change."""

    name = "PostgreSQL standby"

    def __init__(self, folder: Path, primary: PostgresServer, notices: list[str]) -> None:
        super().__init__(folder, 0, notices)
        self._primary = primary
        self._mark = self._data_folder / "standby.signal"  # PostgreSQL removes it when it is promoted

    @property
    def was_promoted(self) -> bool:
        """Whether this was a standby and is a primary of its own now."""
        return self.has_data and not self._mark.exists()

    def promote(self) -> None:
        """Make it a primary with everything it has received, and wait until it can be written to.

        The old primary must be dead before, or both take likes into histories of their own.
        """
        options = ["--wait", f"--timeout={PROMOTE_S_MAX:.0f}"]
        command = self._binaries / "pg_ctl"
        self._run(
            [command, "promote", "-D", self._data_folder, *options], self._account(), PROMOTE_S_MAX + CONNECT_S_MAX
        )

    def _prepare(self) -> None:
        write_private(self.folder / "password", read_password(self._primary.folder))  # copied with all users
        super()._prepare()

    def _settings(self) -> str:
        password, port = read_password(self._primary.folder), self._primary.port
        settings = STANDBY_CONF.format(host=HOST, port=port, user=USER, password=password, standby=STANDBY)
        return super()._settings() + settings

    def _fill(self, fresh: Path, account: Account) -> None:
        source = [f"--host={HOST}", f"--port={self._primary.port}", f"--username={USER}", "--no-password"]
        options = ["--wal-method=stream", "--checkpoint=fast"]
        self._run([self._binaries / "pg_basebackup", "-D", fresh, *source, *options], account, COPY_S_MAX)
        (fresh / self._mark.name).touch(mode=0o600)
        sync_folder(fresh)


class PostgresPair:
    """A primary and its synchronous standby. `notices` are sentences for the operator."""

    def __init__(self, primary: Path, standby: Path, notices: list[str]) -> None:
        self.primary = SynchronousPostgres(primary, 0, notices)
        self.standby = PostgresStandby(standby, self.primary, notices)

    def start(self) -> None:
        """Start both and wait until commits need not wait any more.

        On a failure one may be left running: `stop` ends it.
        """
        self._refuse_older_primary()
        self.primary.start()
        self.standby.start()
        self._wait_until_in_step()

    def stop(self) -> None:
        """Stop the primary, then the standby, which so has everything."""
        try:
            self.primary.stop()
        finally:
            self.standby.stop()

    def stop_leftovers(self) -> None:
        """Stop what an earlier owner of these folders, killed by SIGKILL, left running."""
        self.primary.stop_leftovers()
        self.standby.stop_leftovers()

    def death(self) -> str | None:
        """None while the primary runs; a standby may come back."""
        return self.primary.death()

    def _refuse_older_primary(self) -> None:
        primary, standby = self.primary.folder, self.standby.folder
        if self.standby.was_promoted:
            raise EmbeddedError(
                f"The standby in {standby} was promoted and may hold likes that {primary} does not: "
                f"keep the latter elsewhere, rename the former to {primary}, then start again."
            )
        if self.standby.has_data and not self.primary.has_data:
            raise EmbeddedError(
                f"The ledger in {primary} is gone, but its standby in {standby} has it: rename the latter to "
                f"{primary}, remove cluster/standby.signal there, then start again."
            )

    def _wait_until_in_step(self) -> None:
        deadline = time.monotonic() + IN_STEP_S_MAX
        while (state := self._state()) != _IN_STEP:
            if death := self.primary.death() or self.standby.death():
                raise EmbeddedError(f"{death}\nRepair what its log names, then start again.")
            if time.monotonic() > deadline:
                raise EmbeddedError(
                    f"The PostgreSQL standby was not in step within {IN_STEP_S_MAX:g} s ({state or 'not connected'}): "
                    f"repair what its log names, or remove {self.standby.folder} so that it is copied again, then "
                    f"start again. {self.standby.log_tail()}"
                )
            time.sleep(POLL_S)

    def _state(self) -> str | None:
        try:
            return self.primary.standby_state()
        except (OSError, asyncpg.PostgresError) as error:
            return str(error)


async def _standby_state(url: str) -> str | None:
    connection = await asyncpg.connect(url, ssl=False, timeout=CONNECT_S_MAX)
    try:
        state: str | None = await connection.fetchval(_STATE, STANDBY, timeout=CONNECT_S_MAX)
    finally:
        await connection.close(timeout=CONNECT_S_MAX)
    return state
