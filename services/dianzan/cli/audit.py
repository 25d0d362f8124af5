"""`dianzan seal`, `recount`, `record` and `restore`: from the ledger to a tally that is proven, and back."""

from __future__ import annotations

import csv
import sys
from typing import Annotated

import typer

from dianzan.cli import documents
from dianzan.cli.arguments import Id
from dianzan.cli.asking import Yes, require_agreement
from dianzan.cli.documents import Json
from dianzan.cli.ending import Early, confirm_end
from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, run
from dianzan.ledger.records import Seal
from dianzan.life.record import public_record
from dianzan.life.recount import Recount, recount
from dianzan.life.restore import Restored
from dianzan.life.sealed import against_published, against_seal

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
    early: Early = "",
    *,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Close a campaign, drain, compare four ways and publish the final tally. Run again it compares everything."""

    async def work(stores: Stores) -> tuple[Recount, Seal]:
        await confirm_end(stores, campaign, early=early, yes=yes)
        return await stores.sealer.seal(campaign, drain_s_max=drain, early=early)

    counted, sealed = run(data, work)
    if json:
        documents.show(documents.of_recount(campaign, counted, sealed, []))
        return
    _print(counted)
    typer.echo(f"Sealed {campaign} at {sealed.sealed_at.isoformat()}: {sealed.likes} likes, {sealed.people} people.")
    typer.echo(f"Digest of what was sealed: {sealed.digest or 'none was kept'}")


def restore(
    campaign: Id,
    data: Data = DATA_DEFAULT,
    drain: Annotated[float, typer.Option(help="Seconds to wait for the streams to empty.", min=1, max=86_400)] = 600,
    accept_ledger: Annotated[
        bool, typer.Option(help="Also rebuild shards that count likes the ledger has lost: those likes are given up.")
    ] = False,
    *,
    yes: Yes = False,
) -> None:
    """Rebuild a campaign in a store that has lost it, from the ledger; likes are refused until it is done."""

    async def work(stores: Stores) -> Restored:
        if accept_ledger:
            given_up, taken = await stores.restorer.differences(campaign)
            question = (
                f"Take the ledger's rows of {campaign} for right? {given_up:,} likes that only the store counts would "
                f"be given up, if they do not wait for the ledger; {taken:,} that it does not count, taken over."
            )
            require_agreement(question, yes=yes)
        return await stores.restorer.restore(campaign, drain_s_max=drain, accept_ledger=accept_ledger)

    restored = run(data, work)
    if restored.shards:
        typer.echo(
            f"Restored {len(restored.shards)} shards of {campaign} with {restored.likes} likes, equal to the ledger."
        )
    else:
        typer.echo(f"The store has lost nothing of {campaign}.")


def recount_command(
    campaign: Id,
    data: Data = DATA_DEFAULT,
    *,
    ledger_only: Annotated[
        bool, typer.Option("--ledger-only", help="Without the store: of a backup, or of a year that is long over.")
    ] = False,
    json: Json = False,
) -> None:
    """Count a campaign four ways, look at every like, and compare its seal; exit code 1 if anything differs."""

    async def work(stores: Stores) -> tuple[Recount, Seal | None, list[str]]:
        stored = await stores.lifecycle.stored(campaign)
        counted = await recount(None if ledger_only else stores.store, stores.ledger, stored)
        seal, differences = await against_seal(stores.ledger, stored, counted)
        if not ledger_only:
            differences += await against_published(stores.store, stores.ledger, stored)
        return counted, seal, [*counted.differences().splitlines(), *differences]

    counted, sealed, differences = run(data, work)
    if json:
        documents.show(documents.of_recount(campaign, counted, sealed, differences))
    else:
        _say(counted, sealed, differences)
    raise typer.Exit(1 if differences else 0)


def _say(counted: Recount, sealed: Seal | None, differences: list[str]) -> None:
    _print(counted)
    if sealed is not None:
        typer.echo(f"digest of what was sealed: {sealed.digest or 'none was kept'}")
        typer.echo(f"{sealed.likes:>14,}  sealed tally ({sealed.people:,} people)")
    if counted.waiting:
        typer.echo(f"{counted.waiting} batches wait for the ledger; the counts agree once they are in.")
    typer.echo("\n".join(["DIFFERENT", *differences]) if differences else "equal")


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
