"""What `dianzan up` promises: one command starts everything, goes on with the same data, and stops it in order."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from loadtests.system import SystemFailed
from redis.exceptions import RedisError

from dianzan.local.cluster import ClusterNode, ValkeyCluster
from dianzan.local.processes import lives
from dianzan.local.stores import StoreAddresses
from tests.support.system import END, System
from tests.support.wait import until

SERVICES = ("vote_api", "tally_worker", "results_api")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system of this file's own, which the tests stop, kill and start again on the same data."""
    system = System(tmp_path_factory.mktemp("own") / "data")
    yield system
    if system.process is not None:
        system.stop()


@pytest.fixture
def demo(own: System) -> DemoVoter:
    """A voter of the demo campaign on the running system."""
    if own.process is None:
        own.start()
    return DemoVoter(own)


async def test_a_signal_during_the_start_stops_everything_too(tmp_path: Path) -> None:
    system = System(tmp_path / "data")
    system.launch()

    async def started() -> bool:
        return all((system.data / "run" / f"{name}.json").exists() for name in SERVICES)

    await until(started, within_s=60)
    children = family(system)

    assert system.stop() == 0
    assert "dianzan is ready" not in system.printed
    assert not living(children)


class DemoVoter:
    """A voter that keeps its token through its system's restarts."""

    def __init__(self, system: System) -> None:
        demo = f"{system.vote_url}/v1/campaigns/demo"
        self._url = f"{demo}/likes"
        self._headers = {"authorization": f"Bearer {httpx.post(f'{demo}/voters', json={}).json()['token']}"}

    def move_to(self, system: System) -> None:
        """Send what comes next to another system."""
        self._url = f"{system.vote_url}/v1/campaigns/demo/likes"

    def like(self, candidate: str = "c01") -> dict[str, Any]:
        answer = self.ask(candidate)
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()["results"][0]
        return result

    def ask(self, candidate: str) -> httpx.Response:
        """Like, whatever the answer."""
        return httpx.post(self._url, json={"candidates": [candidate]}, headers=self._headers)


def family(system: System) -> list[psutil.Process]:
    """Every process that `dianzan up` has started: two stores and three services."""
    assert system.process is not None
    found = psutil.Process(system.process.pid).children(recursive=True)
    assert set(SERVICES) <= {part for process in found for part in command(process)}
    return found


def command(process: psutil.Process) -> list[str]:
    """Its command line; none if it has ended, as PostgreSQL's own children do at any time."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return list(filter(lives, processes))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_and_the_next_start_goes_on_with_the_same_data(
    own: System, demo: DemoVoter, number: signal.Signals
) -> None:
    first = demo.like()
    started = family(own)

    assert own.stop(number) == 0, own.printed
    assert living(started) == []
    assert own.printed.endswith("Stopping.\nStopped; the data is kept.\n")

    own.start()
    assert demo.like() == {**first, "status": "already_liked"}


def test_what_a_killed_supervisor_left_behind_is_stopped_and_named_by_the_next_start(
    own: System, demo: DemoVoter
) -> None:
    first = demo.like()
    started = family(own)
    assert own.process is not None
    own.process.kill()
    own.process.communicate()

    own.start()

    assert own.printed.count("left by an earlier run.") == 5, own.printed
    assert living(started) == []
    assert demo.like() == {**first, "status": "already_liked"}


@pytest.mark.parametrize("died", [*SERVICES, "Valkey", "PostgreSQL"])
def test_a_process_that_dies_stops_everything_with_a_sentence_and_the_next_start_has_every_like(
    own: System, demo: DemoVoter, died: str
) -> None:
    first = demo.like()
    started = family(own)
    assert own.process is not None

    os.kill(_pid(own, died), signal.SIGKILL)
    said, _ = own.process.communicate(timeout=60)
    code, own.process = own.process.returncode, None

    assert code == 1
    assert f"{died} " in said
    assert "ended with" in said
    assert "no counted like is lost" in said
    assert "Traceback" not in said, said
    assert living(started) == []
    own.start()
    assert demo.like() == {**first, "status": "already_liked"}


def _pid(system: System, name: str) -> int:
    if name in SERVICES:
        return system.pid_of(name)
    program = {"Valkey": "valkey-server", "PostgreSQL": "postgres"}[name]
    assert system.process is not None
    children = psutil.Process(system.process.pid).children()
    return next(p.pid for p in children if Path(next(iter(command(p)), "")).name == program)


def refused(system: System) -> str:
    """Start a system that must not start; returns the sentence it ends with."""
    with pytest.raises(SystemFailed) as ended:
        system.start()
    said = str(ended.value)
    assert said.startswith("dianzan up ended with 1:"), said
    assert "Traceback" not in said, said
    return system.printed


def named(stores: StoreAddresses) -> dict[str, str]:
    return {"DIANZAN_REDIS_URL": stores.redis_url, "DIANZAN_DATABASE_URL": stores.database_url}


@pytest.mark.parametrize("port", ["vote_port", "results_port", "worker_port"])
def test_a_taken_port_is_named_with_the_option_that_changes_it(system: System, tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        wanted = System(tmp_path / "data", named(system.stores), **{port: taken})

        said = refused(wanted)

    assert f"Port {taken} is taken by another program: stop it, or choose another with --" in said
    assert port.replace("_", "-") in said
    assert list((tmp_path / "data" / "run").glob("*.json")) == [], "what had started is stopped"


def test_one_port_for_two_services_is_refused(tmp_path: Path) -> None:
    doubled = System(tmp_path / "data")
    doubled.results_port = doubled.vote_port

    assert "Each service needs a port of its own" in refused(doubled)


@pytest.mark.parametrize("own_stores", [True, False], ids=["own_stores", "given_stores"])
def test_a_folder_that_cannot_be_written_is_named(system: System, own_stores: bool) -> None:
    nowhere = System(Path("/proc/dianzan"), {} if own_stores else named(system.stores))

    assert "The data folder /proc/dianzan cannot be used" in refused(nowhere)


@pytest.mark.parametrize("own_stores", [True, False], ids=["own_stores", "given_stores"])
def test_a_second_owner_of_a_folder_is_refused_and_the_first_goes_on(
    own: System, demo: DemoVoter, system: System, own_stores: bool
) -> None:
    assert own.process is not None
    second = System(own.data, {} if own_stores else named(system.stores))

    said = refused(second)

    assert f"Another dianzan (process {own.process.pid}) uses folder {own.data}" in said
    assert demo.like()["status"] == "counted"


@pytest.mark.parametrize("name", ["DIANZAN_REDIS_URL", "DIANZAN_DATABASE_URL"])
def test_one_store_address_without_the_other_is_refused(system: System, tmp_path: Path, name: str) -> None:
    lonely = System(tmp_path / "data", {name: named(system.stores)[name]})

    assert "Set both DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL, or neither." in refused(lonely)


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("DIANZAN_REDIS_URL", "redis://127.0.0.1:1/0", "is DIANZAN_REDIS_URL right?"),
        ("DIANZAN_REDIS_URL", "nonsense", "is DIANZAN_REDIS_URL right?"),
        ("DIANZAN_DATABASE_URL", "postgresql://127.0.0.1:1/dianzan", "is DIANZAN_DATABASE_URL right?"),
        ("DIANZAN_DATABASE_URL", "nonsense", "is DIANZAN_DATABASE_URL right? It has no scheme: write postgresql://"),
    ],
)
def test_a_store_address_that_leads_nowhere_is_named(
    system: System, tmp_path: Path, name: str, wrong: str, said: str
) -> None:
    lost = System(tmp_path / "data", {**named(system.stores), name: wrong})

    assert said in refused(lost)


@pytest.mark.parametrize(
    ("name", "part"),
    [("DIANZAN_REDIS_URL", "redis://:"), ("DIANZAN_DATABASE_URL", "postgresql://dianzan:")],
)
def test_a_wrong_password_is_named(system: System, tmp_path: Path, name: str, part: str) -> None:
    right = named(system.stores)
    lost = System(tmp_path / "data", {**right, name: right[name].replace(part, f"{part}wrong")})

    assert f"is {name} right?" in refused(lost)


def test_two_systems_on_the_same_stores_count_as_one(system: System, tmp_path: Path) -> None:
    second = System(tmp_path / "data", named(system.stores))
    second.start()
    try:
        voter = DemoVoter(system)
        first = voter.like("c03")
        voter.move_to(second)
        assert voter.like("c03") == {**first, "status": "already_liked"}
        assert voter.like("c04")["status"] == "counted"
        voter.move_to(system)
        assert voter.like("c04")["status"] == "already_liked"
    finally:
        assert second.stop() == 0, second.printed


def test_it_prints_the_addresses_the_folder_and_commands_to_try(own: System, demo: DemoVoter) -> None:
    assert own.stop() == 0

    for said in (own.vote_url, own.results_url, str(own.data), "TOKEN=$(curl ", "/v1/campaigns/demo/likes"):
        assert said in own.printed


# ---- a cluster of stores --------------------------------------------------------------------------------------------


@pytest.fixture
def clustered(tmp_path: Path) -> Iterator[System]:
    """A system on a Valkey Cluster of its own."""
    started = System(tmp_path / "data", options=("--cluster",))
    started.start()
    yield started
    started.stop()


async def shown(system: System, candidate: str, likes: int) -> None:
    """Wait until everybody can see that many likes."""
    async with httpx.AsyncClient() as http:

        async def look() -> bool:
            answer = await http.get(f"{system.results_url}/v1/campaigns/demo/candidates/{candidate}")
            return bool(answer.json()["likes"] == likes)

        await until(look, within_s=20, what=f"{likes} likes of {candidate} are shown")


def node_pid(node: ClusterNode) -> int:
    try:
        return int(node.ask("INFO", "server")["process_id"])
    except RedisError:
        return 0


async def test_likes_on_a_cluster_are_counted_shown_and_sealed(clustered: System) -> None:
    voters = [DemoVoter(clustered) for _ in range(9)]
    first = [voter.like() for voter in voters]
    assert {each["status"] for each in first} == {"counted"}
    assert [voter.like() for voter in voters] == [{**each, "status": "already_liked"} for each in first]
    await shown(clustered, "c01", 9)

    clustered.cli("campaign", "close", "demo", *END)
    assert ": 9 likes, 9 people." in clustered.cli("seal", "demo", *END).stdout
    assert "equal\n" in clustered.cli("recount", "demo").stdout


async def test_a_node_of_the_cluster_that_dies_is_started_again_and_everything_goes_on(clustered: System) -> None:
    voters = [DemoVoter(clustered) for _ in range(9)]
    services = {name: clustered.pid_of(name) for name in SERVICES}
    node = ValkeyCluster(clustered.data / "cluster", []).nodes[0]
    died = node_pid(node)

    os.kill(died, signal.SIGKILL)

    async def runs_again() -> bool:
        return node_pid(node) not in (0, died)

    await until(runs_again, what="the node runs again")
    for voter in voters:

        async def counted(voter: DemoVoter = voter) -> bool:
            return voter.ask("c02").status_code == 200

        await until(counted, within_s=20, what="the like is counted")
    await shown(clustered, "c02", 9)

    async def agree() -> bool:  # a command asks once, and a node that has just come back may still find its way
        return "equal\n" in clustered.cli("recount", "demo", check=False).stdout

    await until(agree, within_s=20, what="all counts agree")
    assert {name: clustered.pid_of(name) for name in SERVICES} == services
    assert clustered.stop() == 0
    assert f"Valkey node 1 (process {died}) ended with code -9. It is started again" in clustered.printed


def standby_pid(system: System) -> int:
    try:
        return int((system.data / "standby/cluster/postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return 0


async def test_a_standby_of_the_ledger_that_dies_is_started_again_and_everything_goes_on(clustered: System) -> None:
    services = {name: clustered.pid_of(name) for name in SERVICES}
    died = standby_pid(clustered)

    os.kill(died, signal.SIGKILL)

    assert {DemoVoter(clustered).like("c03")["status"] for _ in range(9)} == {"counted"}
    await shown(clustered, "c03", 9)
    assert standby_pid(clustered) not in (0, died)
    assert {name: clustered.pid_of(name) for name in SERVICES} == services
    assert clustered.stop() == 0
    assert f"PostgreSQL standby (process {died}) ended with code -9. It is started again" in clustered.printed


def test_a_cluster_and_the_addresses_of_other_stores_are_refused_together(system: System, tmp_path: Path) -> None:
    both = System(tmp_path / "data", named(system.stores), options=("--cluster",))

    assert "--cluster starts its own store: unset DIANZAN_REDIS_URL" in refused(both)


def test_the_replicated_mode_without_a_cluster_is_refused(tmp_path: Path) -> None:
    weaker = System(tmp_path / "data", {"DIANZAN_STORE_MODE": "replicated"})

    assert "DIANZAN_STORE_MODE=replicated needs --cluster" in refused(weaker)
