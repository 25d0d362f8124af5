"""The deployment files agree with the code and with each other; the stores start with the shipped settings."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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


def files_of(environment: dict[str, str]) -> set[str]:
    """The files that settings are read from."""
    return {value for setting, value in environment.items() if setting.endswith("_FILE")}


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
        for name in settings.model_fields.keys() - Settings.model_fields.keys():
            _default, readers = found.get(variable(name), ("", ""))
            joined = ", ".join(filter(None, (readers, READER[module])))
            found[variable(name)] = (shown(settings.model_fields[name].default), joined)
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
    given = SERVICES[name]["environment"]

    assert importlib.util.find_spec(module)
    assert {setting.removesuffix("_FILE") for setting in given} <= known
    assert {f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]} == files_of(given)


def test_all_three_services_run_and_the_vote_api_twice() -> None:
    assert sorted(OURS.values()) == ["results_api", "tally_worker", "vote_api", "vote_api"]
    assert all(SERVICES[name]["secrets"] == ["redis_url"] for name in OURS if name[:4] == "vote")
    assert SERVICES["results-api"]["secrets"] == ["results_database_url"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_checked_bounded_and_stops_in_order(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file", "compress"}
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


def test_every_size_and_image_is_in_the_example_environment_with_its_default() -> None:
    asked = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", (DEPLOY / "compose.yaml").read_text()))
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", (DEPLOY / "example.env").read_text(), re.MULTILINE))

    assert asked == given
    assert all(f"{name.upper()}_IMAGE" in given for name in ("valkey", "postgres", "nginx", "python", "grafana"))


def test_no_secret_stands_in_a_command_or_in_the_environment() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    named = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}

    assert "PASSWORD:" not in text.replace("PASSWORD_FILE:", "").replace("PASSWORD__FILE:", "")
    assert "@" not in text, "an address with a password"
    assert named == COMPOSE["secrets"].keys()
    assert all(found == {"file": f"./secrets/{name}"} for name, found in COMPOSE["secrets"].items())


def test_the_secrets_are_made_once_and_fit_what_reads_them(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "secrets.sh", tmp_path)
    made = tmp_path / "secrets"
    subprocess.run([tmp_path / "secrets.sh"], check=True)
    first = {path.name: path.read_text() for path in made.iterdir()}
    subprocess.run([tmp_path / "secrets.sh"], check=True)

    assert {path.name: path.read_text() for path in made.iterdir()} == first
    assert COMPOSE["secrets"].keys() == first.keys()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    passwords = [text for name, text in first.items() if name.endswith("_password")]
    assert len({text for text in passwords if re.fullmatch(r"[0-9a-f]{48}", text)}) == 4
    for name, role in (("database_url", "dianzan"), ("results_database_url", "dianzan_results")):
        assert urlsplit(first[name].strip()).username == role
    assert first["valkey_password"] in first["valkey_conf"]


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is missing (apt install postgresql-client)")
def test_the_results_role_is_made_with_its_password(postgres_url: str, tmp_path: Path) -> None:
    given = urlsplit(postgres_url)
    (tmp_path / "results_password").write_text("0123456789abcdef")
    script = (DEPLOY / "postgres-roles.sh").read_text().replace("/run/secrets", str(tmp_path))
    assert given.username
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": str(given.hostname),
        "PGPORT": str(given.port),
        "PGPASSWORD": str(given.password),
        "POSTGRES_USER": given.username,
        "POSTGRES_DB": given.path.removeprefix("/"),
    }

    subprocess.run(["sh", "-c", script], env=environment, check=True)

    as_reader = {**environment, "PGPASSWORD": "0123456789abcdef", "PGUSER": "dianzan_results"}
    asked = ["psql", "-tAc", "SELECT current_user", environment["POSTGRES_DB"]]
    shown = subprocess.run(asked, env=as_reader, check=True, capture_output=True, text=True).stdout
    subprocess.run(["psql", "-qc", "DROP ROLE dianzan_results", postgres_url], check=True)
    assert shown == "dianzan_results\n"


def test_only_the_proxy_is_trusted_and_only_it_is_public() -> None:
    proxy = SERVICES["proxy"]["networks"]["front"]["ipv4_address"]
    public = [name for name, s in SERVICES.items() for port in s.get("ports", []) if "127.0.0.1" not in port]

    assert {SERVICES[name]["environment"].get("DIANZAN_TRUSTED_PROXIES") for name in OURS} == {proxy, None}
    assert public == ["proxy"]
    assert {name for name, network in COMPOSE["networks"].items() if network is None} == {"door"}, "a way out"
    assert all(network is None or network["internal"] for network in COMPOSE["networks"].values())
    out = {name for name, service in SERVICES.items() if "door" in service["networks"]}
    assert out == {name for name, service in SERVICES.items() if "ports" in service}
    assert SERVICES["valkey"]["networks"] == SERVICES["postgres"]["networks"] == ["stores"]


def test_the_proxy_lets_through_what_the_vote_api_takes() -> None:
    assert BODY_BYTES_MAX == 16 * 1024
    assert "client_max_body_size 16k;" in (DEPLOY / "nginx.conf").read_text()


def test_the_public_services_serve_no_pages_about_their_api() -> None:
    public = {name for name, module in OURS.items() if module != "tally_worker"}

    assert {SERVICES[name]["environment"].get("DIANZAN_DOCS") for name in public} == {"false"}


# ---- image and units --------------------------------------------------------------------------------------------


def test_the_image_is_made_of_files_that_exist_without_the_extras_by_an_ordinary_user() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE)
    sent = re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)

    assert all((ROOT / name).exists() for line in copied for name in line.split())
    assert {name for line in copied for name in line.split()} == set(sent)
    assert "--require-hashes --requirement requirements.txt" in text
    assert "embedded]" not in text
    assert text.index("USER 10001") < text.index("CMD ")


def test_the_image_installs_by_hash_what_the_tests_ran_with() -> None:
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text().lower(), re.MULTILINE))
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", (DEPLOY / "requirements.txt").read_text().lower(), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[\[>=<]", each.lower())[0] for each in project["dependencies"]}

    assert wanted <= locked.keys()
    assert {name: version for name, version in locked.items() if tested.get(name, version) != version} == {}
    hashed = re.split(r"(?m)^(?=\w)", (DEPLOY / "requirements.txt").read_text())[1:]
    assert all("--hash=sha256:" in each for each in hashed)


def test_every_action_is_named_by_its_commit() -> None:
    text = (ROOT / ".github/workflows/ci.yml").read_text()

    assert [used for used in re.findall(r"uses: (\S+)", text) if not re.fullmatch(r"\S+@[0-9a-f]{40}", used)] == []


UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
OTHERS = ("dianzan-nginx.service", "dianzan-prometheus.service", "dianzan-store.service")


def test_there_is_a_unit_for_each_process() -> None:
    services = [f"dianzan-{module.replace('_', '-')}.service" for module in SETTINGS]

    assert sorted(path.name.replace("@", "") for path in UNITS) == sorted([*services, *OTHERS])


@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.name))
def test_a_unit_starts_without_rights_and_is_started_again(path: Path) -> None:
    lines = path.read_text().splitlines()

    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "Restart=always"} <= set(lines)
    assert {"DynamicUser=yes"} & set(lines) or any(re.fullmatch(r"User=(?!root)\w.*", line) for line in lines)


OUR_UNITS = [path for path in UNITS if path.name not in OTHERS]


def ends_within_s(module: str) -> float:
    """The longest that a service takes to end in order: its drain, its grace, and two seconds for its clients."""
    grace = re.search(r"graceful_s=(\d+)", (ROOT / "services" / module / "__main__.py").read_text())
    assert grace
    drain = SETTINGS[module].model_fields.get("drain_s")
    return int(grace[1]) + (drain.default if drain else 0) + 2


@pytest.mark.parametrize(("name", "module"), OURS.items())
def test_a_container_is_given_the_time_to_end_in_order(name: str, module: str) -> None:
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= ends_within_s(module)


@pytest.mark.parametrize("path", OUR_UNITS, ids=lambda path: str(path.name))
def test_a_unit_is_given_the_time_to_end_in_order(path: Path) -> None:
    module = re.search(r"python -m (\w+)", path.read_text())
    limit_s = re.search(r"^TimeoutStopSec=(\d+)$", path.read_text(), re.MULTILINE)

    assert module
    assert limit_s
    assert int(limit_s[1]) >= ends_within_s(module[1])


@pytest.mark.parametrize("path", OUR_UNITS, ids=lambda path: str(path.name))
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
