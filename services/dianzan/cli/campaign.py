"""`dianzan campaign`: new, create, import candidates, list, show, changes, publish, revoke, revocations, close."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from dianzan.cli import documents
from dianzan.cli.arguments import Id
from dianzan.cli.asking import Yes, require_agreement
from dianzan.cli.documents import Json
from dianzan.cli.ending import Early, confirm_end
from dianzan.cli.example import campaign_file
from dianzan.cli.revoking import revocations, revoke
from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, refusals_said, run
from dianzan.cli.tables import moment, print_table
from dianzan.domain.campaign import State
from dianzan.domain.campaign_file import read_rules, start_of
from dianzan.domain.errors import DianzanError
from dianzan.domain.shown_text import harmless
from dianzan.ledger.records import StoredCampaign
from dianzan.roster.candidates import Candidate, Roster, read_roster
from dianzan.roster.changes import Change
from dianzan.roster.table import FILE_BYTES_MAX as ROSTER_BYTES_MAX

app = typer.Typer(no_args_is_help=True, help="Campaigns, from draft to closed.")

File = Annotated[Path, typer.Argument(metavar="FILE")]


@app.command()
def new(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write it; without one it is printed.")
    ] = None,
) -> None:
    """Write a commented campaign file to begin with; it is accepted as it is. A file that exists is left alone."""
    text = campaign_file(date.today())
    if file is None:
        typer.echo(text.encode(), nl=False)
        return
    with refusals_said():
        try:
            with file.open("x", encoding="utf-8") as written:
                written.write(text)
        except OSError as error:
            raise DianzanError(f"{file} cannot be written: {error.strerror}.") from error
    typer.echo(f"Wrote {file}. Next: mend it, then dianzan campaign create {file}")


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
def import_candidates(campaign: Id, file: File, data: Data = DATA_DEFAULT, *, yes: Yes = False) -> None:
    """Add or correct candidates from a CSV or XLSX file; a bad file is refused whole, every bad line named.

    A column that the file lacks is left as it is. What would change before the eyes of voters is shown first.
    """
    roster, differences = run(data, lambda stores: _differences(stores, campaign, file))
    if differences:
        typer.echo("\n".join(map(str, differences)), err=True)
        with refusals_said():
            require_agreement(f"Bring this into {campaign}, which is published?", yes=yes)

    async def work(stores: Stores) -> None:
        added, corrected = await stores.lifecycle.import_candidates(
            campaign, roster.candidates, columns=roster.columns, agreed=differences
        )
        typer.echo(f"{added} candidates added, {corrected} corrected{await _next(stores, campaign)}")

    run(data, work)


async def _differences(stores: Stores, campaign: str, file: Path) -> tuple[Roster, list[Change]]:
    roster = read_roster(file.name, start_of(file, ROSTER_BYTES_MAX + 1))
    return roster, await stores.lifecycle.roster_changes(campaign, roster)


async def _next(stores: Stores, campaign: str) -> str:
    stored = await stores.lifecycle.stored(campaign)
    return ", in force now." if stored.state is State.published else f". Next: dianzan campaign publish {campaign}"


@app.command("list")
def list_campaigns(data: Data = DATA_DEFAULT, *, json: Json = False) -> None:
    """Show all campaigns; times are by the clock of each."""

    async def work(stores: Stores) -> None:
        campaigns = await stores.ledger.campaigns.all()
        if json:
            documents.show(documents.of_campaigns(campaigns))
            return
        rows = [
            (
                each.id,
                each.state,
                *(moment(at, each.rules) for at in (each.rules.opens, each.rules.closes)),
                each.rules.title,
            )
            for each in campaigns
        ]
        print_table(("id", "state", "opens", "closes"), ("title",), rows)

    run(data, work)


@app.command()
def show(campaign: Id, data: Data = DATA_DEFAULT, *, json: Json = False) -> None:
    """Show one campaign's rules, state and candidates."""

    async def work(stores: Stores) -> None:
        stored = await stores.lifecycle.stored(campaign)
        candidates = (await stores.ledger.campaigns.candidates(stored)).values()
        minted = await stores.ledger.campaigns.minted(stored)
        if json:
            documents.show(documents.of_campaign(stored, candidates, minted))
        else:
            _show(stored, candidates, minted)

    run(data, work)


def _show(stored: StoredCampaign, candidates: Iterable[Candidate], minted: int) -> None:
    typer.echo(f"state: {stored.state} (version {stored.version})")
    if minted:
        typer.echo(f"tokens made by operators: {minted}")
    for name, value in stored.rules.model_dump(mode="json").items():
        typer.echo(harmless(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"))
    rows = [(each.code, each.kind, each.name, each.district, each.category) for each in candidates]
    print_table(("code", "kind"), ("name", "district", "category"), rows)


@app.command("changes")
def changes_command(campaign: Id, data: Data = DATA_DEFAULT, *, json: Json = False) -> None:
    """Show what was changed in the roster while the campaign ran; of long texts the place where they differ."""

    async def work(stores: Stores) -> None:
        stored = await stores.lifecycle.stored(campaign)
        found = await stores.ledger.campaigns.roster_changes(stored)
        if json:
            documents.show(documents.of_roster_changes(campaign, found))
            return
        for each in found:
            typer.echo(f"{moment(each.changed_at, stored.rules)}  {each.change}")

    run(data, work)


@app.command()
def publish(campaign: Id, data: Data = DATA_DEFAULT, *, yes: Yes = False) -> None:
    """Take likes from `opens` on. Again changes nothing; an interrupted one is completed.

    Asks where `opens` lies more than a day back, as in a file of last year.
    """

    async def work(stores: Stores) -> None:
        stored = await stores.lifecycle.stored(campaign)
        now = datetime.now(UTC)
        since = now - stored.rules.opens
        if stored.state is State.draft and since > timedelta(days=1) and stored.rules.closes > now:
            opened = f"`opens` of {campaign} is {moment(stored.rules.opens, stored.rules)}, {since.days:,} days ago"
            require_agreement(f"{opened}: it takes likes at once. Publish it?", yes=yes)
        document = await stores.lifecycle.publish(campaign)
        times = " to ".join(moment(at, document.rules) for at in (document.rules.opens, document.rules.closes))
        typer.echo(
            f"Published {campaign}, version {document.version}, {len(document.candidates)} candidates; likes are taken "
            f"from {times}, {document.rules.timezone}."
        )

    run(data, work)


@app.command()
def close(campaign: Id, data: Data = DATA_DEFAULT, early: Early = "", *, yes: Yes = False) -> None:
    """Take no more likes, permanently. `dianzan seal` does this too, and then publishes the final tally."""

    async def work(stores: Stores) -> None:
        await confirm_end(stores, campaign, early=early, yes=yes)
        await stores.lifecycle.close(campaign, early=early)
        typer.echo(f"Closed {campaign}. Next: dianzan seal {campaign}")

    run(data, work)


app.command()(revoke)
app.command()(revocations)
