"""`dianzan seal`, `recount`, `record` and `restore`: from the ledger to a tally that is proven, and back."""

from __future__ import annotations

import csv
import sys
from typing import Annotated

import typer

from dianzan.cli import documents
from dianzan.cli.campaign import Id
from dianzan.cli.documents import Json
from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, run
from dianzan.ledger.records import Seal, Tally
from dianzan.life.record import public_record
from dianzan.life.recount import Recount, recount
from dianzan.life.restore import Restored

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
    *,
    json: Json = False,
) -> None:
    """Close a campaign, drain, compare four ways and publish the final tally. Run again it gives the same result."""

    async def work(stores: Stores) -> tuple[Recount, Seal]:
        return await stores.sealer.seal(campaign, drain_s_max=drain)

    counted, sealed = run(data, work)
    if json:
        documents.show(documents.of_recount(campaign, counted, sealed, []))
        return
    _print(counted)
    typer.echo(f"Sealed {campaign} at {sealed.sealed_at.isoformat()}: {sealed.likes} likes, {sealed.people} people.")


def restore(
    campaign: Id,
    data: Data = DATA_DEFAULT,
    drain: Annotated[float, typer.Option(help="Seconds to wait for the streams to empty.", min=1, max=86_400)] = 600,
    accept_ledger: Annotated[
        bool, typer.Option(help="Also rebuild shards that count likes the ledger has lost: those likes are given up.")
    ] = False,
) -> None:
    """Rebuild a campaign in a store that has lost it, from the ledger; likes are refused until it is done."""

    async def work(stores: Stores) -> Restored:
        return await stores.restorer.restore(campaign, drain_s_max=drain, accept_ledger=accept_ledger)

    restored = run(data, work)
    if restored.shards:
        typer.echo(
            f"Restored {len(restored.shards)} shards of {campaign} with {restored.likes} likes, equal to the ledger."
        )
    else:
        typer.echo(f"The store has lost nothing of {campaign}.")


def recount_command(campaign: Id, data: Data = DATA_DEFAULT, *, json: Json = False) -> None:
    """Count a campaign four ways, and against its sealed tally; exit code 1 where anything differs."""

    async def work(stores: Stores) -> tuple[Recount, Seal | None]:
        stored = await stores.lifecycle.stored(campaign)
        return await recount(stores.store, stores.ledger, stored), await stores.ledger.campaigns.seal(stored)

    counted, sealed = run(data, work)
    differences = counted.differences().splitlines() + (_against_seal(counted, sealed) if sealed else [])
    if json:
        documents.show(documents.of_recount(campaign, counted, sealed, differences))
    else:
        _say(counted, sealed, differences)
    raise typer.Exit(1 if differences else 0)


def _say(counted: Recount, sealed: Seal | None, differences: list[str]) -> None:
    _print(counted)
    if sealed is not None:
        typer.echo(f"{sealed.likes:>14,}  sealed tally ({sealed.people:,} people)")
    if counted.waiting:
        typer.echo(f"{counted.waiting} batches wait for the ledger; the counts agree once they are in.")
    typer.echo("\n".join(["DIFFERENT", *differences]) if differences else "equal")


def _against_seal(counted: Recount, sealed: Seal) -> list[str]:
    """One line a number of the sealed tally that the ledger does not give, likes and people alike."""
    final = {index: tally for index, (_rank, tally) in sealed.tallies.items()}
    lines = []
    for index in sorted(final.keys() | counted.ledger.keys()):
        found = Tally(counted.ledger.get(index, 0), counted.people.get(index, 0))
        if (was := final.get(index, Tally(0, 0))) != found:
            lines.append(f"candidate {index}: sealed {_both(was)}, ledger {_both(found)}")
    total, found = Tally(sealed.likes, sealed.people), Tally(sum(counted.ledger.values()), counted.people.get(0, 0))
    return lines if total == found else [*lines, f"in all: sealed {_both(total)}, ledger {_both(found)}"]


def _both(tally: Tally) -> str:
    return f"{tally.likes:,} likes of {tally.people:,} people"


def record(campaign: Id, data: Data = DATA_DEFAULT) -> None:
    """Write the public record as CSV: window, candidate and receipt of every like; no person is in it."""

    async def work(stores: Stores) -> None:
        stored = await stores.lifecycle.stored(campaign)
        writer = csv.writer(sys.stdout)
        writer.writerow(["window", "candidate", "receipt"])
        async for likes in public_record(stores.ledger, stored):
            writer.writerows([likes.window.isoformat(), likes.candidate, receipt] for receipt in likes.receipts)

    run(data, work)


def _print(counted: Recount) -> None:
    for name, total in counted.totals.items():
        typer.echo(f"{total:>14,}  {_MEANING[name]}")
    typer.echo(f"{counted.people.get(0, 0):>14,}  people (distinct voters)")
