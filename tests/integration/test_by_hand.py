"""deploy/README's "By hand", each of its commands run in its order, below a folder and on ports of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from dianzan.local.processes import lives
from tests.support.servers import POSTGRES_15, REDIS_7_0
from tests.support.system import free_port
from tests.support.wait import until

ROOT = Path(__file__).parents[2]
PORTS = ("6379", "5432", "8000", "8010", "8001", "8002", "8080", "9090")
# What the commands would do to this machine, and what stands in for it.
NOT_HERE = {
    "/etc/postgresql/15/main/conf.d": "{root}/etc/postgresql",
    "/opt/dianzan/bin/pip": "true",
    "python3 -m venv /opt/dianzan": "true",
    "/opt/dianzan/bin": str(Path(sys.executable).parent),
    "/etc/": "{root}/etc/",
    "/var/": "{root}/var/",
}
STAND_INS = {
    "apt-get": "exit 0",
    "systemctl": """
if [ "$*" = "restart postgresql" ]; then
  setpriv --reuid=postgres --regid=postgres --clear-groups {binaries}/pg_ctl -w -D {root}/cluster -l {root}/log restart
else
  cd {repository} && exec {python} -m tests.support.systemctl "$@"
fi""",
    "runuser": 'shift 3; PGHOST={root} PGPORT={port} PGUSER=postgres exec "$@"',
}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the commands are root's"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("nginx", "prometheus", "curl", "psql"))) or not REDIS_7_0.is_file(),
        reason="Debian's programs are missing (apt install redis-server postgresql nginx-light prometheus curl)",
    ),
]


@dataclass(frozen=True)
class Machine:
    """A folder in the place of `/`, and ports in the place of the usual ones."""

    root: Path
    ports: Mapping[str, int]

    def placed(self, text: str) -> str:
        """The text with this machine's places."""
        here = {place: ours.format(root=self.root) for place, ours in NOT_HERE.items()}
        text = re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], text)
        return re.sub("|".join(rf"\b{port}\b" for port in self.ports), lambda found: str(self.ports[found[0]]), text)

    def run(self, commands: str) -> str:
        """What a block of commands prints; each of them must succeed."""
        settings = {
            "DIANZAN_RESULTS_PORT": str(self.ports["8001"]),
            "DIANZAN_WORKER_PORT": str(self.ports["8002"]),
            "DIANZAN_DRAIN_S": "0",
        }
        path = f"{self.root}/bin:/usr/sbin:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-euc", self.placed(commands)],
            cwd=self.root / "repository",
            env={"PATH": path, "MACHINE": str(self.root), "LC_ALL": "C.UTF-8", **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine on which only PostgreSQL runs, as Debian leaves it after the installation."""
    root = Path(tempfile.mkdtemp(prefix="dianzan-machine-"))  # pytest's folders are closed to PostgreSQL's user
    root.chmod(0o755)
    found = Machine(root, {port: free_port() for port in PORTS})
    shutil.copytree(ROOT / "deploy", root / "repository/deploy")
    for path in (root / "repository/deploy").rglob("*.*"):
        if path.is_file():
            path.write_text(found.placed(path.read_text()))
    for folder in ("bin", "etc/systemd/system", "etc/postgresql"):
        (root / folder).mkdir(parents=True)
    places = {"root": root, "python": sys.executable, "repository": ROOT, "binaries": POSTGRES_15}
    for name, script in STAND_INS.items():
        (root / "bin" / name).write_text("#!/bin/sh\n" + script.format(port=found.ports["5432"], **places))
        (root / "bin" / name).chmod(0o755)
    _cluster(found)
    yield found
    _end(root)
    shutil.rmtree(root)


def _cluster(machine: Machine) -> None:
    for folder in ("cluster", "log"):
        path = machine.root / folder
        path.mkdir() if folder == "cluster" else path.touch()
        shutil.chown(path, "postgres", "postgres")
    initdb = [str(POSTGRES_15 / "initdb"), "-D", str(machine.root / "cluster"), "--auth-local=trust"]
    _as_postgres(*initdb, "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8")
    with (machine.root / "cluster/postgresql.conf").open("a") as conf:
        conf.write(f"port = {machine.ports['5432']}\nunix_socket_directories = '{machine.root}'\n")
        conf.write(f"include_dir = '{machine.root}/etc/postgresql'\n")
    shutil.chown(machine.root, "postgres")
    control = [str(POSTGRES_15 / "pg_ctl"), "-w", "-D", str(machine.root / "cluster")]
    _as_postgres(*control, "-l", str(machine.root / "log"), "start")


def _as_postgres(*command: str) -> None:
    drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    subprocess.run([*drop, *command], cwd="/", stdout=subprocess.DEVNULL, check=True)


def _end(root: Path) -> None:
    noted = root / "pids"
    started = [psutil.Process(int(pid)) for pid in noted.read_text().split()] if noted.exists() else []
    for process in filter(lives, started):
        process.terminate()
    psutil.wait_procs(started, timeout=40)
    for process in filter(lives, started):
        process.kill()
    _as_postgres(str(POSTGRES_15 / "pg_ctl"), "-w", "-m", "fast", "-D", str(root / "cluster"), "stop")


def blocks() -> list[str]:
    """The shell blocks of the section, in order."""
    section = (ROOT / "deploy/README.md").read_text().split("\n## By hand\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


async def test_the_commands_lead_from_a_bare_machine_to_the_public_door(machine: Machine) -> None:
    password = secrets.token_hex(24)
    for block in blocks():
        printed = machine.run(re.sub(r"(?<=[':])PASSWORD|(?<=requirepass )PASSWORD", password, block))

    assert printed.strip() == "ok"

    async def public() -> bool:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{machine.ports['8080']}") as door:
            return bool((await door.get("/v1/campaigns")).json() == {"campaigns": []})

    async def watched() -> bool:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{machine.ports['9090']}") as prometheus:
            found = (await prometheus.get("/api/v1/query", params={"query": "up"})).json()["data"]["result"]
        return {each["metric"]["job"]: each["value"][1] for each in found} == {
            "vote_api": "1",
            "tally_worker": "1",
            "results_api": "1",
            "door": "0",  # which asks for an exporter of its own
        }

    await until(public, within_s=30, what="the results are served through the door")
    await until(watched, within_s=30, what="Prometheus sees every process")
