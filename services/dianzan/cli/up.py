"""`dianzan up`: everything on one machine by one command, on stores from wheels or on real servers."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import typer
import yaml

from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, addresses, open_stores
from dianzan.domain.campaign import State
from dianzan.domain.campaign_file import parse_rules
from dianzan.domain.errors import DianzanError, StoreError
from dianzan.local.listening import EVERYWHERE, in_url
from dianzan.local.stores import EmbeddedCluster, EmbeddedStores, OwnStores, StoreAddresses, owned_folder
from dianzan.local.supervisor import Service, Supervisor, SupervisorError
from dianzan.roster.candidates import read_roster

DEMO = "demo"
DEMO_DAYS = 60
RESULTS_ROLE = "dianzan_results"
CLUSTER_HELP = (
    "Run a Valkey Cluster of 3 primaries and 3 replicas, and PostgreSQL with a synchronous standby: a like is counted "
    "once two nodes have it on disk."
)


class Ports(NamedTuple):
    """Where the services listen."""

    vote: int
    results: int
    worker: int


Port = Annotated[int, typer.Option(min=1, max=65_535)]


def up(
    data: Data = DATA_DEFAULT,
    vote_port: Port = 8000,
    results_port: Port = 8001,
    worker_port: Port = 8002,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    *,
    cluster: Annotated[bool, typer.Option("--cluster", help=CLUSTER_HELP)] = False,
) -> None:
    """Start stores, vote API, results API and tally worker with a demo campaign; Ctrl-C stops all in order.

    With DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL set it runs against those servers instead of starting its own.
    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stopping.set())
    try:
        ports = Ports(vote_port, results_port, worker_port)
        with _running(data.expanduser().absolute(), host, ports, stopping, cluster=cluster) as everything:
            if not stopping.is_set():
                _greet(host, ports, data)
            _watch(everything, stopping)
            typer.echo("Stopping.")
    except DianzanError as error:
        typer.secho(_as_typed(str(error)), err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    typer.echo("Stopped; the data is kept.")


def _as_typed(said: str) -> str:
    """The sentence, and how an option that it names is given by whoever typed `make up`."""
    if "MAKELEVEL" not in os.environ or "--" not in said:
        return said
    return f"{said}\nWith make, options are given in ARGS: make up ARGS='--vote-port 8100'"


class _Everything:
    """What runs: the services, and the stores where they are ours."""

    def __init__(self, supervisor: Supervisor, embedded: OwnStores | None) -> None:
        self._supervisor, self._embedded = supervisor, embedded

    def poll(self) -> str | None:
        dead = self._supervisor.poll()
        if dead or self._embedded is None:
            return dead
        dead = self._embedded.poll()
        _print_notices(self._embedded.notices)
        self._embedded.notices.clear()
        return dead


@contextmanager
def _running(data: Path, host: str, ports: Ports, stopping: threading.Event, *, cluster: bool) -> Iterator[_Everything]:
    if len(set(ports)) < len(ports):
        raise SupervisorError(
            "Each service needs a port of its own: change --vote-port, --results-port or --worker-port."
        )
    with ExitStack() as stack:
        found, embedded = _stores(stack, data, cluster=cluster)
        supervisor = Supervisor(data, host)
        supervisor.stop_leftovers()
        _print_notices(supervisor.notices)
        results_url = asyncio.run(_prepare(found, own=embedded is not None))
        stack.callback(_stop, supervisor)
        for service in _services(found, host, ports, results_url=results_url):
            supervisor.start(service)
        supervisor.wait_ready(stopping)
        yield _Everything(supervisor, embedded)


def _services(found: StoreAddresses, host: str, ports: Ports, *, results_url: str = "") -> list[Service]:
    """In the order in which they stop too: no more likes, then no more flushes, then no more readers."""
    shared = {
        "DIANZAN_REDIS_URL": found.redis_url,
        "DIANZAN_DATABASE_URL": found.database_url,
        "DIANZAN_STORE_MODE": "replicated" if found.replicated else "one-node",
        "DIANZAN_HOST": host,
        "DIANZAN_DRAIN_S": "0",  # all end together: no other process could take what comes meanwhile
    }
    # Reached from anywhere, a page on a phone must ask the host it came from, not its own.
    vote_url = f":{ports.vote}" if host in EVERYWHERE else f"http://{in_url(host)}:{ports.vote}"
    own: list[tuple[str, int, str, dict[str, str]]] = [
        ("vote_api", ports.vote, "--vote-port", {"DIANZAN_VOTE_PORT": str(ports.vote)}),
        ("tally_worker", ports.worker, "--worker-port", {"DIANZAN_WORKER_PORT": str(ports.worker)}),
        (
            "results_api",
            ports.results,
            "--results-port",
            {
                "DIANZAN_DATABASE_URL": results_url or found.database_url,
                "DIANZAN_RESULTS_PORT": str(ports.results),
                "DIANZAN_VOTE_URL": os.environ.get("DIANZAN_VOTE_URL", vote_url),
            },
        ),
    ]
    return [Service(module, port, option, {**shared, **settings}) for module, port, option, settings in own]


def _stores(stack: ExitStack, data: Path, *, cluster: bool) -> tuple[StoreAddresses, OwnStores | None]:
    if os.environ.get("DIANZAN_REDIS_URL") or os.environ.get("DIANZAN_DATABASE_URL"):
        if cluster:
            raise StoreError("--cluster starts its own store: unset DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL.")
        found = addresses(data)
        stack.enter_context(owned_folder(data))
        return found, None
    if not cluster and os.environ.get("DIANZAN_STORE_MODE") == "replicated":
        raise StoreError("DIANZAN_STORE_MODE=replicated needs --cluster, or the two addresses of stores of your own.")
    embedded = EmbeddedCluster(data) if cluster else EmbeddedStores(data)
    found = embedded.start()
    stack.callback(_stop, embedded)
    _print_notices(embedded.notices)
    embedded.notices.clear()
    return found, embedded


async def _prepare(found: StoreAddresses, *, own: bool) -> str:
    """Migrate, load the store's functions, and create the demo campaign if there is none.

    Returns the results API's address of the ledger: in our own PostgreSQL it has a role that can read no key, with a
    password that is new at each start.
    """
    async with open_stores(found) as stores:
        await stores.prepare()
        await create_demo(stores)
        if not own:
            return found.database_url
        password = secrets.token_hex(24)
        await stores.ledger.make_reader(RESULTS_ROLE, password)
    address = urlsplit(found.database_url)
    return urlunsplit(address._replace(netloc=f"{RESULTS_ROLE}:{password}@{address.netloc.rpartition('@')[2]}"))


async def create_demo(stores: Stores) -> None:
    """Create and publish the demo campaign, open from today on; one that was published stays as it is."""
    stored = await stores.ledger.campaigns.one(DEMO)
    if stored is not None and stored.state is not State.draft:
        return
    folder = files("dianzan.local") / "demo"
    raw = yaml.safe_load((folder / "campaign.yaml").read_text(encoding="utf-8"))
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    raw |= {"opens": today.isoformat(), "closes": (today + timedelta(days=DEMO_DAYS)).isoformat()}
    await stores.lifecycle.create(parse_rules(raw, "the demo campaign"))
    roster = read_roster("candidates.csv", (folder / "candidates.csv").read_bytes())
    await stores.lifecycle.import_candidates(DEMO, roster.candidates)
    await stores.lifecycle.publish(DEMO)


def _watch(everything: _Everything, stopping: threading.Event) -> None:
    while not stopping.wait(0.2):
        dead = everything.poll()
        if dead:
            raise SupervisorError(f"{dead}\nEverything else is stopped in order; no counted like is lost.")


def _greet(host: str, ports: Ports, data: Path) -> None:
    vote, results = f"http://{in_url(host)}:{ports.vote}", f"http://{in_url(host)}:{ports.results}"
    typer.echo(
        f"""dianzan is ready.

  page         {results}/
  vote API     {vote}/docs
  results API  {results}/docs
  data         {data}

Try, in another shell:

  JSON='Content-Type: application/json'
  TOKEN=$(curl -s {vote}/v1/campaigns/{DEMO}/voters -H "$JSON" -d '{{}}' | cut -d'"' -f4)
  ANSWER='curl -s -w \\n'
  $ANSWER {vote}/v1/campaigns/{DEMO}/likes -H "Authorization: Bearer $TOKEN" -H "$JSON" -d '{{"candidates": ["c01"]}}'
  sleep 2; $ANSWER {results}/v1/campaigns/{DEMO}/candidates/c01

Ctrl-C stops everything in order."""
    )


def _stop(running: Supervisor | OwnStores) -> None:
    running.notices.clear()
    running.stop()
    _print_notices(running.notices)


def _print_notices(notices: list[str]) -> None:
    for notice in notices:
        typer.echo(notice)
