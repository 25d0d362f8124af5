"""`dianzan campaign`: create, import candidates, list, show, publish, close."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dianzan.cli import documents
from dianzan.cli.documents import Json
from dianzan.cli.ending import Early, Yes, confirm_end
from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, run
from dianzan.domain.campaign import State
from dianzan.domain.campaign_file import read_rules
from dianzan.domain.errors import DianzanError
from dianzan.ledger.records import StoredCampaign
from dianzan.roster.candidates import Candidate, read_roster

app = typer.Typer(no_args_is_help=True, help="Campaigns, from draft to closed.")

Id = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]
File = Annotated[Path, typer.Argument(metavar="FILE")]


@app.command()
def create(file: File, data: Data = DATA_DEFAULT) -> None:
    """Create a campaign from a YAML file, or change the rules of one that exists."""

    async def work(stores: Stores) -> None:
        rules = read_rules(file)
        if await stores.lifecycle.create(rules):
            typer.echo(f"Created {rules.id}. Next: dianzan campaign import-candidates {rules.id} FILE")
        else:
            typer.echo(f"Changed {rules.id}{await _next(stores, rules.id)}")

    run(data, work)


@app.command("import-candidates")
def import_candidates(campaign: Id, file: File, data: Data = DATA_DEFAULT) -> None:
    """Add or correct candidates from a CSV or XLSX file; a bad file is refused whole, every bad line named."""

    async def work(stores: Stores) -> None:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DianzanError(f"{file} cannot be read: {error.strerror}.") from error
        added, corrected = await stores.lifecycle.import_candidates(campaign, read_roster(file.name, content))
        typer.echo(f"{added} candidates added, {corrected} corrected{await _next(stores, campaign)}")

    run(data, work)


async def _next(stores: Stores, campaign: str) -> str:
    stored = await stores.lifecycle.stored(campaign)
    return ", in force now." if stored.state is State.published else f". Next: dianzan campaign publish {campaign}"


@app.command("list")
def list_campaigns(data: Data = DATA_DEFAULT) -> None:
    """Show all campaigns."""

    async def work(stores: Stores) -> None:
        table = Table("id", "title", "state", "opens", "closes", "results")
        for each in await stores.ledger.campaigns.all():
            rules = each.rules.model_dump(mode="json")
            table.add_row(each.id, rules["title"], each.state, rules["opens"], rules["closes"], rules["results"])
        Console().print(table)

    run(data, work)


@app.command()
def show(campaign: Id, data: Data = DATA_DEFAULT, *, json: Json = False) -> None:
    """Show one campaign's rules, state and candidates."""

    async def work(stores: Stores) -> None:
        stored = await stores.lifecycle.stored(campaign)
        candidates = (await stores.ledger.campaigns.candidates(stored)).values()
        if json:
            documents.show(documents.of_campaign(stored, candidates))
        else:
            _show(stored, candidates)

    run(data, work)


def _show(stored: StoredCampaign, candidates: Iterable[Candidate]) -> None:
    typer.echo(f"state: {stored.state} (version {stored.version})")
    for name, value in stored.rules.model_dump(mode="json").items():
        typer.echo(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    table = Table("code", "name", "kind", "district", "category")
    for each in candidates:
        table.add_row(each.code, each.name, each.kind, each.district, each.category)
    Console().print(table)


@app.command()
def publish(campaign: Id, data: Data = DATA_DEFAULT) -> None:
    """Take likes from `opens` on. Again changes nothing; an interrupted one is completed."""

    async def work(stores: Stores) -> None:
        document = await stores.lifecycle.publish(campaign)
        typer.echo(f"Published {campaign}, version {document.version}, {len(document.candidates)} candidates.")

    run(data, work)


@app.command()
def close(campaign: Id, data: Data = DATA_DEFAULT, early: Early = "", *, yes: Yes = False) -> None:
    """Take no more likes, permanently. `dianzan seal` does this too, and then publishes the final tally."""

    async def work(stores: Stores) -> None:
        await confirm_end(stores, campaign, early=early, yes=yes)
        await stores.lifecycle.close(campaign, early=early)
        typer.echo(f"Closed {campaign}. Next: dianzan seal {campaign}")

    run(data, work)
