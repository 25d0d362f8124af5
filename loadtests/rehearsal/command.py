"""The command of a rehearsal: a whole campaign through stores of its own, compared to the like at the end."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dianzan.cli.stores import Stores, open_stores
from dianzan.domain.errors import DianzanError
from dianzan.local.folder import HOST, claim_port
from dianzan.local.stores import EmbeddedStores, StoreAddresses, owned_folder
from dianzan.local.supervisor import Service, Supervisor
from dianzan.store import durability
from dianzan.store.nodes import connect
from loadtests.rehearsal.figures import FILE, Figures, Meter, RehearsalError
from loadtests.rehearsal.plan import Plan
from loadtests.rehearsal.report import MB, Costs, Surroundings, counts, differences, facts, markdown, picture
from loadtests.rehearsal.run import CAMPAIGN, STORE, Moment, Rehearsal, Stopped
from loadtests.rehearsal.verdict import Verdict, judge
from loadtests.shapes import DAYS

DATA: Final = Path(".dianzan-rehearsal")
LIKES: Final = 5_000_000
LIKES_MAX: Final = 2_000_000_000
SEED: Final = 2022
BYTES_A_LIKE: Final = 200  # of disk: 142 in the ledger, the rest while a recount sorts
BYTES_BESIDE: Final = 4_000_000_000  # write-ahead log, and the store's file while it is written anew
STOPPED: Final = 130  # what a shell calls the end by Ctrl-C
WORKER: Final = "tally_worker"
OWN: Final = ("valkey", "postgres", "logs", "run", FILE)  # what a rehearsal leaves in its folder


def rehearse(
    likes: Annotated[int | None, typer.Option(min=1, max=LIKES_MAX, help=f"How many likes; usually {LIKES:,}.")] = None,
    seed: Annotated[int | None, typer.Option(help=f"Another seed is another campaign; usually {SEED}.")] = None,
    data: Annotated[Path, typer.Option(help="Folder for the stores; started again on it, a rehearsal goes on.")] = DATA,
    report: Annotated[Path | None, typer.Option(help="Write a report (Markdown) here, its picture beside it.")] = None,
    *,
    fresh: Annotated[bool, typer.Option("--fresh", help="First remove an earlier rehearsal from the folder.")] = False,
) -> None:
    """Rehearse a 20-day campaign through real stores and worker; exit code 1 where a single like differs.

    250 million likes take 36 GB of disk and an hour on two cores. Stopped or killed at any point it goes on
    when the same is run again.
    """
    data = data.expanduser().absolute()
    try:
        figures = _figures(data, likes, seed, fresh=fresh)
        outcome = _rehearsed(data, figures)
        _print(figures, outcome)
        if report is not None:
            _report(report, figures, outcome)
    except (KeyboardInterrupt, asyncio.CancelledError, Stopped):
        typer.echo(f"Stopped. To go on: python -m loadtests.rehearsal --data {data}")
        raise typer.Exit(STOPPED) from None
    except DianzanError as error:
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    raise typer.Exit(1 if outcome.verdict.differences else 0)


# ---- the folder -----------------------------------------------------------------------------------------------------


def _figures(data: Path, likes: int | None, seed: int | None, *, fresh: bool) -> Figures:
    """Those of the rehearsal in the folder, or new ones. Raises RehearsalError where the folder is another's."""
    known = (data / FILE).exists()
    if fresh and known:
        _clear(data)
    found = Figures.read(data)
    if found is None:
        if not known:
            _require_free(data)
        return _begun(data, Figures(likes=likes or LIKES, seed=SEED if seed is None else seed))
    asked = (found.likes if likes is None else likes, found.seed if seed is None else seed)
    if asked != (found.likes, found.seed):
        raise RehearsalError(
            f"{data} holds a rehearsal of {found.likes:,} likes with seed {found.seed}: go on without --likes and "
            "--seed, begin anew with --fresh, or choose another folder with --data."
        )
    found.resumed += found.day < len(DAYS)
    return found


def _require_free(data: Path) -> None:
    left = sorted(path.name for path in data.iterdir()) if data.exists() else []
    if left:
        raise RehearsalError(f"{data} holds something else ({left[0]}, …): choose another folder with --data.")


def _begun(data: Path, figures: Figures) -> Figures:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    needed, free = figures.likes * BYTES_A_LIKE + BYTES_BESIDE, shutil.disk_usage(data).free
    if free < needed:
        raise RehearsalError(
            f"{figures.likes:,} likes need up to {needed / 1e9:.0f} GB, and {data} has {free / 1e9:.0f} GB free: "
            "choose another folder with --data, or fewer likes."
        )
    figures.write(data)  # from now on the folder is known as a rehearsal's
    return figures


def _clear(data: Path) -> None:
    embedded = EmbeddedStores(data)
    with owned_folder(data):
        Supervisor(data, HOST).stop_leftovers()
        embedded.postgres.stop_leftovers()
        embedded.valkey.stop_leftovers()
        for path in (data / name for name in OWN):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


# ---- what runs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Processes:
    """The stores and the worker, and where the stores are."""

    embedded: EmbeddedStores
    supervisor: Supervisor
    found: StoreAddresses

    def pids(self) -> dict[str, int]:
        """Process ids by the names that the figures use."""
        embedded = self.embedded
        return {STORE: embedded.valkey.pid, "worker": self.supervisor.pid(WORKER), "PostgreSQL": embedded.postgres.pid}

    def death(self) -> str | None:
        """Who has died, None while all run."""
        return self.embedded.poll() or self.supervisor.poll()


@dataclass(frozen=True, slots=True)
class _Outcome:
    verdict: Verdict
    costs: Costs
    where: Surroundings


def _rehearsed(data: Path, figures: Figures) -> _Outcome:
    with ExitStack() as stack:
        embedded = EmbeddedStores(data)
        found = embedded.start()
        stack.callback(embedded.stop)
        supervisor = Supervisor(data, HOST)
        supervisor.stop_leftovers()
        for notice in (*embedded.notices, *supervisor.notices):
            typer.echo(notice)
        stack.callback(supervisor.stop)
        return asyncio.run(_work(data, figures, _Processes(embedded, supervisor, found)))


async def _work(data: Path, figures: Figures, running: _Processes) -> _Outcome:
    stopping = _stop_on_signal()
    plan = Plan(figures.likes, figures.seed)
    async with open_stores(running.found) as stores:
        await stores.ledger.migrate()
        await stores.store.load_library()
        running.supervisor.start(_worker(data, running.found))
        running.supervisor.wait_ready(threading.Event())
        nodes = connect(running.found.redis_url)
        try:
            client = nodes.all()[0].client
            with _Watching(plan, figures, running) as watching:
                rehearsal = Rehearsal(
                    plan,
                    figures,
                    data,
                    store=stores.store,
                    ledger=stores.ledger,
                    client=client,
                    meter=Meter(running.pids()),
                    seen=watching.seen,
                    stopping=stopping,
                )
                await rehearsal.run()
            store_name = await durability.server_name(client)
        finally:
            await nodes.aclose()
        typer.echo("All likes are sent. Sealing and counting again; of 250 million likes that takes a while.")
        return await _judged(plan, stores, store_name)


def _stop_on_signal() -> asyncio.Event:
    """A signal ends whatever is waited for; the stores are then stopped in order, and the rehearsal can go on."""
    task, stopping = asyncio.current_task(), asyncio.Event()
    assert task is not None

    def stop() -> None:
        stopping.set()  # looked at before every batch: in Python 3.11 a wait_for that is just done swallows the other
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return stopping


def _worker(data: Path, found: StoreAddresses) -> Service:
    port = claim_port(data, "the tally worker", 0, file="worker-port")
    environment = {
        "DIANZAN_REDIS_URL": found.redis_url,
        "DIANZAN_DATABASE_URL": found.database_url,
        "DIANZAN_STORE_MODE": "one-node",
        "DIANZAN_HOST": HOST,
        "DIANZAN_WORKER_PORT": str(port),
    }
    return Service(WORKER, port, "--data", environment)


async def _judged(plan: Plan, stores: Stores, store_name: str) -> _Outcome:
    began_s = time.monotonic()
    verdict = await judge(plan, CAMPAIGN, stores.lifecycle, stores.ledger)
    judged_s = time.monotonic() - began_s
    rows, indexes = await stores.ledger.size_on_disk((await stores.lifecycle.stored(CAMPAIGN)).number)
    where = _surroundings(store_name, await stores.ledger.server_version())
    return _Outcome(verdict, Costs(rows, indexes, judged_s), where)


def _report(path: Path, figures: Figures, outcome: _Outcome) -> None:
    image = path.with_suffix(".svg")
    text = markdown(figures, outcome.verdict, outcome.costs, outcome.where, image.name)
    path.write_text(text, encoding="utf-8")
    image.write_text(picture(figures), encoding="utf-8")
    typer.echo(f"Written: {path}, {image}")


# ---- what is seen ---------------------------------------------------------------------------------------------------


class _Watching:
    """The progress on a terminal, else a line a day; ends the rehearsal where a process has died."""

    def __init__(self, plan: Plan, figures: Figures, running: _Processes) -> None:
        self._figures, self._running = figures, running
        console = Console()
        self._lines = not console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>5.1f}%  {task.fields[said]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=self._lines,
        )
        sent = plan.likes if figures.day == len(DAYS) else plan.likes_until(figures.day, figures.batch)
        self._task = self._progress.add_task("", total=plan.likes, completed=sent, said="")
        self._day = -1
        self._last = (time.monotonic(), sent)

    def __enter__(self) -> _Watching:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def seen(self, moment: Moment) -> None:
        """Show one second. Raises RehearsalError where a server or the worker has died."""
        dead = self._running.death()
        if dead:
            raise RehearsalError(f"{dead}\nRun it again to go on.")
        now_s = time.monotonic()
        rate = (moment.sent - self._last[1]) / max(now_s - self._last[0], 1e-9)
        self._last = (now_s, moment.sent)
        said = f"{rate:,.0f} likes/s, {moment.backlog:,} batches wait, store {moment.store / MB:,.0f} MB"
        name = f"day {moment.day + 1:>2}, {moment.hour:02}:00"
        self._progress.update(self._task, completed=moment.sent, description=name, said=said)
        if self._lines and moment.day != self._day:
            typer.echo(f"{name}: {moment.sent:,} likes sent in {self._figures.seconds:,.0f} s, {said}")
        self._day = moment.day


def _print(figures: Figures, outcome: _Outcome) -> None:
    for name, total in counts(outcome.verdict):
        typer.echo(f"{total:>14}  {name}")
    for name, value in facts(figures, outcome.costs, outcome.where):
        typer.echo(f"{name}: {value}")
    found = differences(outcome.verdict)
    typer.echo("\n".join(["DIFFERENT", *found] if found else ["equal"]))


def _surroundings(store_name: str, postgres: str) -> Surroundings:
    store, _, store_version = store_name.partition(" ")
    versions = {"dianzan": version("dianzan"), "Python": platform.python_version()}
    versions |= {store: store_version, "PostgreSQL": postgres}
    memory = round(psutil.virtual_memory().total / 2**30)
    machine = (
        f"{_processor()}, {os.cpu_count()} cores, {memory} GB, {platform.system()} {platform.release().split('-')[0]}"
    )
    command = " ".join(["python -m loadtests.rehearsal", *sys.argv[1:]])
    return Surroundings(command, _commit(), machine, versions, datetime.now(UTC))


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
