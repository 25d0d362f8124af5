"""The deployment files agree with the code and with each other; the stores start with the shipped settings."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import typer
import yaml

from dianzan.cli.main import app
from dianzan.domain.limits import BODY_BYTES_MAX
from dianzan.local.folder import database_url, redis_url
from dianzan.local.postgres import PostgresServer
from dianzan.local.valkey import ValkeyServer
from dianzan.process.settings import Settings
from dianzan.store import durability
from dianzan.store.nodes import open_client
from dianzan.store.store import Store
from results_api.settings import ResultsSettings
from tally_worker.settings import WorkerSettings
from tests.support.nodes import one_server
from tests.support.servers import POSTGRES_15, REDIS_7_0, DebianPostgres, DebianRedis
from vote_api.settings import VoteSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
ONE_SHOT = "migrate"
SETTINGS: dict[str, type[Settings]] = {
    "vote_api": VoteSettings,
    "tally_worker": WorkerSettings,
    "results_api": ResultsSettings,
}
READER = {"vote_api": "vote API", "tally_worker": "tally worker", "results_api": "results API"}


def variable(field: str) -> str:
    return f"DIANZAN_{field.upper()}"


def module_of(service: dict[str, Any]) -> str | None:
    """The module a service of ours runs, None for the stores and tools."""
    command = service.get("command", [])
    return command[2] if command[:2] == ["python", "-m"] else None


OURS = {name: module for name, service in SERVICES.items() if (module := module_of(service))}


# ---- the table of settings --------------------------------------------------------------------------------------


def documented() -> dict[str, tuple[str, str]]:
    """Variable -> (default, who reads it) in deploy/README.md."""
    rows = re.findall(
        r"^\| `(DIANZAN_\w+)` \| (.*?) \| (.*?) \| .+ \|$", (DEPLOY / "README.md").read_text(), re.MULTILINE
    )
    assert len(rows) == len({row[0] for row in rows}), "a variable stands twice"
    return {name: (default.strip("`"), readers) for name, default, readers in rows}


def declared() -> dict[str, tuple[str, str]]:
    """The same of the settings classes and of the command line."""
    found = {variable(name): (shown(field.default), "all") for name, field in Settings.model_fields.items()}
    for module, settings in SETTINGS.items():
        own = settings.model_fields.keys() - Settings.model_fields.keys()
        found |= {variable(name): (shown(settings.model_fields[name].default), READER[module]) for name in own}
    for store in ("DIANZAN_REDIS_URL", "DIANZAN_DATABASE_URL"):
        found[store] = (found[store][0], "all, `dianzan`")
    return found | {name: (default, "`dianzan`") for name, default in of_commands(typer.main.get_command(app))}


def shown(default: object) -> str:
    return str(default) or "(empty)"


def of_commands(command: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if isinstance(parameter.envvar, str):
            yield parameter.envvar, shown(parameter.default)
    for inner in getattr(command, "commands", {}).values():
        yield from of_commands(inner)


def test_the_table_of_settings_is_what_the_code_reads() -> None:
    assert documented() == declared()


def test_no_variable_is_read_that_is_not_in_the_table() -> None:
    used = {
        name for path in (ROOT / "services").rglob("*.py") for name in re.findall(r"DIANZAN_[A-Z_]+", path.read_text())
    }

    assert used - documented().keys() - {"DIANZAN_"} == set()


# ---- compose ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "module"), OURS.items())
def test_a_service_is_given_only_settings_it_reads(name: str, module: str) -> None:
    known = {variable(field) for field in SETTINGS[module].model_fields}

    assert importlib.util.find_spec(module)
    assert SERVICES[name]["environment"].keys() <= known


def test_all_three_services_run_and_the_vote_api_twice() -> None:
    assert sorted(OURS.values()) == ["results_api", "tally_worker", "vote_api", "vote_api"]
    assert all("DIANZAN_DATABASE_URL" not in SERVICES[name]["environment"] for name in OURS if name[:4] == "vote")


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_checked_bounded_and_stops_in_order(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    if name != ONE_SHOT:
        assert service["healthcheck"]["test"]
        assert service["stop_grace_period"]
        assert service["deploy"]["resources"]["limits"]["memory"]


@pytest.mark.parametrize(("name", "module"), OURS.items())
def test_readiness_is_asked_at_the_port_the_service_listens_on(name: str, module: str) -> None:
    setting = {"vote_api": "VOTE", "tally_worker": "WORKER", "results_api": "RESULTS"}[module]
    port = SERVICES[name]["environment"][f"DIANZAN_{setting}_PORT"]

    assert f":{port}/readyz" in SERVICES[name]["healthcheck"]["test"][-1]
    assert f"{name}:{port}" in (DEPLOY / "prometheus.yml").read_text()
    if module != "tally_worker":
        assert f"server {name}:{port} " in (DEPLOY / "upstreams.conf").read_text()


def test_everything_named_exists() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()
        networks = service["networks"]
        assert set(networks) <= COMPOSE["networks"].keys()


def test_every_secret_and_size_is_in_the_example_environment() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text()))
    given = set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "example.env").read_text(), re.MULTILINE))

    assert asked == given


def test_only_the_proxy_is_trusted_and_only_it_is_public() -> None:
    proxy = SERVICES["proxy"]["networks"]["front"]["ipv4_address"]
    public = [name for name, s in SERVICES.items() for port in s.get("ports", []) if "127.0.0.1" not in port]

    assert {SERVICES[name]["environment"].get("DIANZAN_TRUSTED_PROXIES") for name in OURS} == {proxy, None}
    assert public == ["proxy"]
    assert COMPOSE["networks"]["stores"]["internal"] is True
    assert SERVICES["valkey"]["networks"] == SERVICES["postgres"]["networks"] == ["stores"]


def test_the_proxy_lets_through_what_the_vote_api_takes() -> None:
    assert BODY_BYTES_MAX == 16 * 1024
    assert "client_max_body_size 16k;" in (DEPLOY / "nginx.conf").read_text()


# ---- image and units --------------------------------------------------------------------------------------------


def test_the_image_is_made_of_files_that_exist_without_the_extras_by_an_ordinary_user() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE)
    sent = re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)

    assert all((ROOT / name).exists() for line in copied for name in line.split())
    assert {name for line in copied for name in line.split()} == set(sent)
    assert "--constraint constraints.txt ." in text
    assert "embedded]" not in text
    assert text.index("USER 10001") < text.index("CMD ")


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: str(path.name))
def test_a_unit_runs_a_module_of_ours(path: Path) -> None:
    match = re.search(r"^ExecStart=/opt/dianzan/bin/python -m (\w+)$", path.read_text(), re.MULTILINE)

    assert match
    assert match[1] in SETTINGS
    assert {variable(f) for f in SETTINGS[match[1]].model_fields} >= set(re.findall(r"DIANZAN_\w+", path.read_text()))


# ---- the stores' settings ---------------------------------------------------------------------------------------


class ShippedValkey(ValkeyServer):
    """The wheel's Valkey on deploy/valkey.conf; only address, password and folder are the test's."""

    def _prepare(self) -> None:
        super()._prepare()
        own = [line for line in self._conf.read_text().splitlines() if line.split(" ")[0] in _OF_THE_TEST]
        self._conf.write_text((DEPLOY / "valkey.conf").read_text() + "\n" + "\n".join(own) + "\n")


class ShippedRedis(ShippedValkey, DebianRedis):
    """Debian's Redis 7.0 on the same file."""


_OF_THE_TEST = ("bind", "port", "requirepass", "dir", "pidfile", "logfile", "set-proc-title")


@pytest.mark.parametrize("kind", [ShippedValkey, ShippedRedis])
async def test_a_store_on_the_shipped_settings_keeps_the_promise(kind: type[ShippedValkey], tmp_path: Path) -> None:
    if kind is ShippedRedis and not REDIS_7_0.is_file():
        pytest.skip("Debian's redis-server is not installed (apt install redis-server)")
    server = kind(tmp_path / "store") if kind is ShippedRedis else kind(tmp_path / "store", 0, [])
    server.start()
    client = open_client(redis_url(tmp_path / "store"))
    try:
        store = Store(one_server(client))
        await store.load_library()
        assert await durability.durability_gaps(client, replicated=False) == []
        assert (await client.config_get("hash-max-listpack-entries")).popitem()[1] in (b"512", "512")
    finally:
        await client.aclose()
        server.stop()


class ShippedPostgres(PostgresServer):
    """The wheel's PostgreSQL on deploy/postgres.conf; only address and sockets are the test's."""

    def _prepare(self) -> None:
        super()._prepare()
        own = [line for line in self._conf.read_text().splitlines() if line.split(" ")[0] in _OF_THE_TEST_POSTGRES]
        self._conf.write_text((DEPLOY / "postgres.conf").read_text() + "\n" + "\n".join(own) + "\n")


class ShippedPostgres15(ShippedPostgres, DebianPostgres):
    """Debian's PostgreSQL 15 on the same file."""


_OF_THE_TEST_POSTGRES = ("listen_addresses", "port", "unix_socket_directories", "cluster_name")


@pytest.mark.parametrize("kind", [ShippedPostgres, ShippedPostgres15])
async def test_a_ledger_on_the_shipped_settings_is_durable(kind: type[ShippedPostgres], tmp_path: Path) -> None:
    if kind is ShippedPostgres15 and not (POSTGRES_15 / "postgres").is_file():
        pytest.skip("Debian's PostgreSQL 15 is not installed (apt install postgresql-15)")
    server = kind(tmp_path / "ledger") if kind is ShippedPostgres15 else kind(tmp_path / "ledger", 0, [])
    server.start()
    try:
        connection = await asyncpg.connect(database_url(tmp_path / "ledger"), ssl=False)
        durable = {name: await connection.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit")}
        refused = await connection.fetch("SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL")
        await connection.close()
    finally:
        server.stop()

    assert durable == {"fsync": "on", "synchronous_commit": "on"}
    assert refused == []
