"""Rehearses a whole campaign on stores of its own: `python -m loadtests.rehearsal`; exit code 1 if a like differs."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from dianzan.cli.stores import Stores, open_stores
from dianzan.domain.errors import DianzanError
from dianzan.life.recount import recount
from dianzan.store.nodes import open_client
from loadtests import machine
from loadtests.rehearsal.figures import LIKES, SEED, Figures, begin_or_go_on
from loadtests.rehearsal.measures import Meter, measure_ledger, store_version
from loadtests.rehearsal.plan import Plan
from loadtests.rehearsal.report import Outcome, facts, markdown, picture
from loadtests.rehearsal.run import CAMPAIGN, DRAIN_S_MAX, STORE, Rehearsal, Stopped
from loadtests.rehearsal.verdict import judge
from loadtests.stores import OwnStores, Server, opened, serving

DATA: Final = Path(".dianzan-rehearsal")
LIKES_MAX: Final = 2_000_000_000
STOPPED: Final = 130  # what a shell calls the end by Ctrl-C


def rehearse(
    likes: Annotated[int | None, typer.Option(min=1, max=LIKES_MAX, help=f"How many likes; usually {LIKES:,}.")] = None,
    seed: Annotated[int | None, typer.Option(help=f"Another seed is another campaign; usually {SEED}.")] = None,
    data: Annotated[Path, typer.Option(help="Folder for the stores; started again on it, a rehearsal goes on.")] = DATA,
    report: Annotated[Path | None, typer.Option(help="Write a report (Markdown) here, its picture beside it.")] = None,
    *,
    fresh: Annotated[bool, typer.Option("--fresh", help="First remove an earlier rehearsal from the folder.")] = False,
) -> None:
    """Rehearse a 20-day campaign through real stores and worker; exit code 1 if a single like differs.

    250 million likes take 36 GB of disk and an hour on two cores. Stopped or killed at any point it goes on
    when the same is run again.
    """
    data = data.expanduser().absolute()
    try:
        figures = begin_or_go_on(data, likes, seed, fresh=fresh)
        outcome = _rehearsed(data, figures)
    except (KeyboardInterrupt, asyncio.CancelledError, Stopped):
        typer.echo(f"Stopped. To go on: python -m loadtests.rehearsal --data {data}")
        raise typer.Exit(STOPPED) from None
    except DianzanError as error:
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
    for name, value in facts(figures, outcome):
        typer.echo(f"{name}: {value}")
    outcome.verdict.show()
    if report is not None:
        _report(report, figures, outcome)
    raise typer.Exit(0 if outcome.verdict.holds else 1)


def _rehearsed(data: Path, figures: Figures) -> Outcome:
    with (
        opened(data) as own,
        serving(data, "tally_worker", "DIANZAN_WORKER_PORT", own.addresses) as worker,
    ):
        return asyncio.run(_work(data, figures, own, worker))


async def _work(data: Path, figures: Figures, own: OwnStores, worker: Server) -> Outcome:
    stopping = _stop_on_signal()
    plan = Plan(figures.likes, figures.seed)
    meter = Meter({STORE: own.embedded.valkey.pid, "worker": worker.pid, "PostgreSQL": own.embedded.postgres.pid})

    def death() -> str | None:
        return own.embedded.poll() or worker.death()

    client = open_client(own.addresses.redis_url)
    async with open_stores(own.addresses) as stores, client:
        rehearsal = Rehearsal(plan, figures, data, stores, client=client, meter=meter, death=death, stopping=stopping)
        await rehearsal.run()
        typer.echo("All likes are sent. Sealing and counting again; of 250 million likes that takes a while.")
        return await _judged(plan, stores, own.addresses.database_url, dict([await store_version(client)]))


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


async def _judged(plan: Plan, stores: Stores, database_url: str, store: dict[str, str]) -> Outcome:
    """Seal, and compare with the plan. Raises CampaignError if the seal itself finds a difference.

    What was sealed by an earlier run is only counted again: it is compared with the plan whatever has become of it.
    """
    began_s = time.monotonic()
    stored = await stores.lifecycle.stored(CAMPAIGN)
    sealed = await stores.ledger.campaigns.seal(stored)
    if sealed is None:
        counted, sealed = await stores.sealer.seal(CAMPAIGN, drain_s_max=DRAIN_S_MAX)
    else:
        counted = await recount(stores.store, stores.ledger, stored)
    ledger = await measure_ledger(database_url, stored.number)
    expected = plan.expected()
    verdict = judge(expected, counted, ledger.windows, sealed, stored.rules.window_dates())
    versions = machine.versions(["dianzan"]) | store | {"PostgreSQL": ledger.version}
    here = machine.machine()
    where = {
        "command": " ".join(["python -m loadtests.rehearsal", *sys.argv[1:]]),
        "ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": machine.commit() or "unknown",
        "machine": f"{here['cpu']}, {here['cores']} cores, {here['memory_gb']} GB, {here['system']}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }
    return Outcome(verdict, expected.people, ledger.rows, ledger.indexes, time.monotonic() - began_s, where)


def _report(path: Path, figures: Figures, outcome: Outcome) -> None:
    image = path.with_suffix(".svg")
    path.write_text(markdown(figures, outcome, image.name), encoding="utf-8")
    image.write_text(picture(figures), encoding="utf-8")
    typer.echo(f"Written: {path}, {image}")


if __name__ == "__main__":
    typer.run(rehearse)
