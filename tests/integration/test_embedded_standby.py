"""The embedded PostgreSQL and its synchronous standby: nothing is committed by one alone, either may die."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from dianzan.domain.errors import CampaignUnknown, LedgerError
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.local import standby
from dianzan.local.folder import EmbeddedError, database_url
from dianzan.local.postgres import PostgresServer
from dianzan.local.standby import PostgresPair
from dianzan.local.stores import EmbeddedCluster
from results_api.view import Snapshots
from tests.support.ledger_rows import november, published
from tests.support.wait import until

WAIT_S_MAX = 30
OWNER = """
import signal, sys
from pathlib import Path
from dianzan.local.standby import PostgresPair
PostgresPair(Path(sys.argv[1]) / "postgres", Path(sys.argv[1]) / "standby", []).start()
print("ready", flush=True)
signal.pause()
"""


def pair_on(data: Path) -> PostgresPair:
    return PostgresPair(data / "postgres", data / "standby", [])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a primary and its standby were started once, with a table `kept`."""
    data = tmp_path_factory.mktemp("made")
    pair = pair_on(data)
    try:
        pair.start()
        asyncio.run(ask(pair.primary, "CREATE TABLE kept (word text)"))
    finally:
        pair.stop()
    return data


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> Iterator[PostgresPair]:
    """A running primary and standby of the test's own."""
    data = tmp_path / "北京 榜样 data"
    shutil.copytree(made, data)
    pair = pair_on(data)
    try:
        pair.start()
        yield pair
    finally:
        pair.stop()


@asynccontextmanager
async def connected(server: PostgresServer) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(database_url(server.folder), ssl=False, timeout=WAIT_S_MAX)
    try:
        yield connection
    finally:
        await connection.close(timeout=WAIT_S_MAX)


async def ask(server: PostgresServer, query: str) -> Any:
    async with connected(server) as connection:
        return await connection.fetchval(query, timeout=WAIT_S_MAX)


async def words(server: PostgresServer) -> list[str]:
    found: list[str] = await ask(server, "SELECT coalesce(array_agg(word ORDER BY word), '{}') FROM kept")
    return found


async def write(server: PostgresServer, word: str) -> None:
    async with connected(server) as connection:
        await connection.execute("INSERT INTO kept VALUES ($1)", word, timeout=WAIT_S_MAX)


def move(folder: Path, to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    folder.rename(to)


async def test_the_standby_is_synchronous_and_nobody_writes_to_it(pair: PostgresPair) -> None:
    assert pair.primary.standby_state() == "streaming, sync"
    for server in (pair.primary, pair.standby):
        assert [await ask(server, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]
        assert server.folder.stat().st_mode & 0o777 == 0o700
        assert (server.folder / "dianzan.conf").stat().st_mode & 0o777 == 0o600

    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await write(pair.standby, "alone")


async def test_a_commit_waits_while_the_standby_is_away_and_is_seen_by_nobody(pair: PostgresPair) -> None:
    pair.standby.kill()
    commit = asyncio.create_task(write(pair.primary, "点赞"))

    async def waits() -> bool:
        return bool(await ask(pair.primary, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))

    await until(waits, within_s=WAIT_S_MAX, what="the commit waits for the standby")
    assert not commit.done()
    assert await words(pair.primary) == []
    await asyncio.to_thread(pair.standby.start)

    await asyncio.wait_for(commit, WAIT_S_MAX)
    assert await words(pair.primary) == ["点赞"]


async def test_a_promoted_standby_has_what_was_committed_and_is_put_in_the_primarys_place_as_told(
    pair: PostgresPair,
) -> None:
    primary, standby = pair.primary.folder, pair.standby.folder
    await write(pair.primary, "before")
    pair.primary.kill()

    pair.standby.promote()

    assert await words(pair.standby) == ["before"]
    await write(pair.standby, "after")
    pair.standby.kill()
    pair.standby.start()
    assert await words(pair.standby) == ["after", "before"]
    pair.stop()
    with pytest.raises(EmbeddedError) as refused:
        pair.start()
    assert str(refused.value) == (
        f"The standby in {standby} was promoted and may hold likes that {primary} does not: "
        f"keep the latter elsewhere, rename the former to {primary}, then start again."
    )
    move(primary, primary.with_name("old"))
    move(standby, primary)
    pair.start()
    assert pair.primary.standby_state() == "streaming, sync"
    assert await words(pair.standby) == ["after", "before"]


async def test_a_lost_ledger_is_not_begun_anew_and_its_standby_is_put_in_its_place_as_told(pair: PostgresPair) -> None:
    primary, standby = pair.primary.folder, pair.standby.folder
    await write(pair.primary, "点赞")
    pair.stop()
    shutil.rmtree(primary)

    with pytest.raises(EmbeddedError) as refused:
        pair.start()

    assert str(refused.value) == (
        f"The ledger in {primary} is gone, but its standby in {standby} has it: "
        f"rename the latter to {primary}, remove cluster/standby.signal there, then start again."
    )
    move(standby, primary)
    (primary / "cluster/standby.signal").unlink()
    pair.start()
    assert pair.primary.standby_state() == "streaming, sync"
    assert await words(pair.standby) == ["点赞"]


async def test_a_standby_of_another_ledger_is_named_with_its_log_and_is_copied_anew_where_it_is_removed(
    pair: PostgresPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.stop()
    shutil.rmtree(pair.primary.folder / "cluster")
    pair.primary.start()
    pair.primary.stop()
    monkeypatch.setattr(standby, "IN_STEP_S_MAX", 1.0)
    with pytest.raises(EmbeddedError, match=r"(?s)remove .*/standby so that .*database system identifier differs"):
        pair.start()
    pair.stop()
    monkeypatch.undo()

    shutil.rmtree(pair.standby.folder)
    pair.start()
    assert pair.primary.standby_state() == "streaming, sync"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts owners of `tmp_path` in processes of their own; ends them, and what they left, with the test."""
    owners: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        owners.append(subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE))
        return owners[-1]

    yield start
    for owner in owners:
        with owner:
            owner.kill()
    pair_on(tmp_path).stop_leftovers()


async def test_a_copy_that_was_cut_short_is_made_again(
    made: Path, tmp_path: Path, own: Callable[[], subprocess.Popen[bytes]]
) -> None:
    shutil.copytree(made / "postgres", tmp_path / "postgres")
    owner = own()

    async def copying() -> bool:
        return (tmp_path / "standby/cluster.new/backup_label").exists()

    await until(copying, within_s=WAIT_S_MAX, what="the copy is being made")
    owner.kill()
    owner.wait()
    assert not (tmp_path / "standby/cluster").exists()
    pair = pair_on(tmp_path)
    try:
        pair.stop_leftovers()
        pair.start()
        assert not (tmp_path / "standby/cluster.new").exists()
        assert await words(pair.standby) == []
    finally:
        pair.stop()


async def test_servers_left_by_a_killed_owner_are_stopped_and_nothing_is_lost(
    made: Path, tmp_path: Path, own: Callable[[], subprocess.Popen[bytes]]
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    owner = own()
    assert owner.stdout is not None
    assert await asyncio.to_thread(owner.stdout.readline) == b"ready\n"
    left = {Path(child.cmdline()[2]).parent.name: child.pid for child in psutil.Process(owner.pid).children()}
    await write(pair_on(tmp_path).primary, "点赞")
    owner.kill()
    owner.wait()
    notices: list[str] = []
    pair = PostgresPair(tmp_path / "postgres", tmp_path / "standby", notices)
    try:
        pair.stop_leftovers()
        assert notices == [
            f"Stopped PostgreSQL (process {left['postgres']}), left by an earlier run.",
            f"Stopped PostgreSQL standby (process {left['standby']}), left by an earlier run.",
        ]
        pair.start()
        assert await words(pair.primary) == await words(pair.standby) == ["点赞"]
    finally:
        pair.stop()


async def test_beside_a_cluster_a_standby_that_dies_is_started_again_and_a_primary_that_dies_ends_all(
    tmp_path: Path,
) -> None:
    with EmbeddedCluster(tmp_path) as stores:
        ledger = stores.ledger
        for _again in range(2):  # the second time it is away for REVIVE_EVERY_S
            stores.notices.clear()
            died = ledger.standby.pid
            os.kill(died, signal.SIGKILL)

            async def in_step_again() -> bool:
                assert stores.poll() is None
                return bool(stores.notices) and ledger.primary.standby_state() == "streaming, sync"

            await until(in_step_again, within_s=WAIT_S_MAX, what="the standby follows again")
            assert stores.notices == [
                f"PostgreSQL standby (process {died}) ended with code -9. "
                f"It is started again (process {ledger.standby.pid}); everything else goes on."
            ]

        os.kill(ledger.primary.pid, signal.SIGKILL)

        async def death() -> str | None:
            return stores.poll()

        said = await until(death, within_s=WAIT_S_MAX) or ""
        assert said.startswith(f"PostgreSQL (process {ledger.primary.pid}) ended with code -9.")


async def test_results_read_from_a_standby_are_as_old_as_its_data(pair: PostgresPair) -> None:
    ledger = await Ledger.connect(database_url(pair.primary.folder))
    standby_ledger = await Ledger.connect(database_url(pair.standby.folder))
    try:
        await ledger.migrate()
        campaign = await published(ledger, november())
        snapshots = Snapshots(standby_ledger)
        await until(_shows(snapshots, campaign, 0), what="the standby shows the campaign")
        assert (snapshots.age_s or 0) < 1

        await ask(pair.standby, "SELECT pg_wal_replay_pause()")
        await until(lambda: ask(pair.standby, "SELECT pg_get_wal_replay_pause_state() = 'paused'"), what="it is paused")
        async with connected(pair.primary) as primary:  # the pair is synchronous by flush, which goes on
            await primary.execute("INSERT INTO kept VALUES ('later')", timeout=WAIT_S_MAX)
        began = datetime.now(UTC)

        async def older() -> bool:
            await snapshots.refresh()
            return (snapshots.age_s or 0) > 1

        await until(older, what="what is served grows old, though it is read again and again")
        assert datetime.fromisoformat(_results(snapshots, campaign)["as_of"]) < began

        await ask(pair.standby, "SELECT pg_wal_replay_resume()")

        async def fresh() -> bool:
            await snapshots.refresh()
            return (snapshots.age_s or 9) < 0.5

        await until(fresh, what="it is fresh again")
    finally:
        await standby_ledger.aclose()
        await ledger.aclose()


def _results(snapshots: Snapshots, campaign: StoredCampaign) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(snapshots.of(campaign.id).documents["results"].body)
    return found


def _shows(snapshots: Snapshots, campaign: StoredCampaign, likes: int) -> Callable[[], Awaitable[bool]]:
    async def shows() -> bool:
        try:
            await snapshots.refresh()
            return bool(_results(snapshots, campaign)["likes"] == likes)
        except (CampaignUnknown, LedgerError):
            return False

    return shows
