"""`dianzan seal`, `dianzan recount` and `dianzan record`: what auditors run."""

from __future__ import annotations

import csv
import sys
from typing import Annotated

import typer

from dianzan.cli.campaign import Id
from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, run
from dianzan.ledger import Seal
from dianzan.recount import Recount, recount

_MEANING = {
    "store": "counters of the store",
    "counts": "counts in Postgres",
    "ledger": "rows of the ledger",
    "identities": "distinct likes in the ledger",
}


def seal(
    campaign: Id,
    data: Data = DATA_DEFAULT,
    drain: Annotated[float, typer.Option(help="Seconds to wait for the streams to empty.", min=1, max=86_400)] = 600,
) -> None:
    """Close a campaign, drain, compare four ways and publish the final tally. Run again it gives the same result."""

    async def work(stores: Stores) -> tuple[Recount, Seal]:
        return await stores.lifecycle.seal(campaign, drain_s_max=drain)

    counted, sealed = run(data, work)
    _print(counted)
    typer.echo(f"Sealed {campaign} at {sealed.sealed_at.isoformat()}: {sealed.likes} likes, {sealed.people} people.")


def recount_command(campaign: Id, data: Data = DATA_DEFAULT) -> None:
    """Count a campaign four ways, and against its sealed tally; exit code 1 where anything differs."""

    async def work(stores: Stores) -> tuple[Recount, Seal | None]:
        stored = await stores.lifecycle.stored(campaign)
        return await recount(stores.store, stores.ledger, stored), await stores.ledger.seal(stored.number)

    counted, sealed = run(data, work)
    _print(counted)
    agrees = counted.equal
    if sealed is not None:
        final = {index: tally.likes for index, (_rank, tally) in sealed.tallies.items() if tally.likes}
        agrees = agrees and final == dict(counted.ledger) and sealed.people == counted.people.get(0, 0)
        typer.echo(f"{sealed.likes:>14,}  sealed tally ({sealed.people:,} people)")
    if counted.waiting:
        typer.echo(f"{counted.waiting} batches wait for the ledger; the counts agree once they are in.")
    typer.echo("equal" if agrees else f"DIFFERENT\n{counted.differences()}")
    raise typer.Exit(0 if agrees else 1)


def record(campaign: Id, data: Data = DATA_DEFAULT) -> None:
    """Write the public record as CSV: window, candidate and receipt of every like; no person is in it."""

    async def work(stores: Stores) -> None:
        stored = await stores.lifecycle.stored(campaign)
        document = await stores.ledger.document(stored)
        writer = csv.writer(sys.stdout)
        writer.writerow(["window", "candidate", "receipt"])
        async for day, candidate, voter in stores.ledger.record(stored.number):
            window = stored.rules.window_on(day)
            receipt = document.key.receipt(window.day, candidate, voter)
            writer.writerow([day.isoformat(), document.candidates[candidate - 1], receipt])

    run(data, work)


def _print(counted: Recount) -> None:
    for name, total in counted.totals.items():
        typer.echo(f"{total:>14,}  {_MEANING[name]}")
    typer.echo(f"{counted.people.get(0, 0):>14,}  people (distinct voters)")
