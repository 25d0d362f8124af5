"""`dianzan campaign revoke` and `revocations`: tokens that are no longer taken, and those that are again."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from dianzan.cli import documents
from dianzan.cli.arguments import Id
from dianzan.cli.asking import Yes, require_agreement
from dianzan.cli.documents import Json
from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, run
from dianzan.cli.tables import moment
from dianzan.cli.token import class_named
from dianzan.domain.campaign import Rules
from dianzan.domain.codes import folded
from dianzan.domain.errors import CampaignError
from dianzan.domain.shown_text import harmless
from dianzan.domain.voters import Revocation, VoterClass
from dianzan.ledger.records import StoredRevocation

Moment = typer.Option(formats=["%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z"], metavar="TIME")


def revoke(
    campaign: Id,
    data: Data = DATA_DEFAULT,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.", metavar="TEXT")] = "",
    voter_class: Annotated[VoterClass | None, typer.Option("--class", parser=class_named)] = None,
    publisher: Annotated[str, typer.Option(help="Tokens that came by this publisher.", metavar="CODE")] = "",
    made_from: Annotated[datetime | None, Moment] = None,
    made_until: Annotated[datetime | None, Moment] = None,
    undo: Annotated[int | None, typer.Option(help="Take the tokens of this revocation again.", min=1)] = None,
    yes: Yes = False,
) -> None:
    """Take no more likes by the tokens that all given options name, at once. Likes that are counted stay.

    Whoever held such a token becomes a new voter by the next tap, and may like again in this window.
    """

    async def work(stores: Stores) -> None:
        if undo is not None:
            await stores.lifecycle.undo_revocation(campaign, undo)
            typer.echo(f"Revocation {undo} of {campaign} is undone: its tokens are taken again.")
            return
        stored = await stores.lifecycle.stored(campaign)
        number = await stores.ledger.campaigns.publisher_number(stored, folded(publisher)) if publisher else None
        span = [_local(each, stored.rules) for each in (made_from, made_until)]
        wanted = Revocation(0, voter_class, number, *(int(each.timestamp()) if each else None for each in span))
        if wanted == Revocation(0):
            raise CampaignError("Say which tokens: --class, --publisher, --made-from or --made-until.")
        if not reason.strip():
            raise CampaignError("Say why, since it is kept: --reason TEXT.")
        told = told_of(wanted, publisher, stored.rules)
        require_agreement(f"Take no more likes of {campaign} by tokens {told}?", yes=yes)
        made = await stores.lifecycle.revoke(campaign, wanted, reason.strip())
        typer.echo(f"Revocation {made} of {campaign} is in force: tokens {told}. Undo: --undo {made}")

    run(data, work)


def revocations(campaign: Id, data: Data = DATA_DEFAULT, *, json: Json = False) -> None:
    """Show which tokens are no longer taken, since when and why; undone ones too."""

    async def work(stores: Stores) -> None:
        stored = await stores.lifecycle.stored(campaign)
        found = await stores.ledger.campaigns.revocations(stored)
        if json:
            documents.show(documents.of_revocations(campaign, found))
            return
        for each in found:
            typer.echo(_line(each, stored.rules))

    run(data, work)


def told_of(revocation: Revocation, publisher: str, rules: Rules) -> str:
    """What a revocation names, in words."""
    parts = [f"of class {revocation.voter_class.name}"] if revocation.voter_class else []
    parts += [f"by publisher {publisher}"] if publisher else []
    for word, second in (("from", revocation.made_from_s), ("before", revocation.made_until_s)):
        if second is not None:
            parts.append(f"made {word} {moment(datetime.fromtimestamp(second, rules.zone), rules)}")
    return ", ".join(parts)


def _line(found: StoredRevocation, rules: Rules) -> str:
    undone = f", undone {moment(found.undone_at, rules)}" if found.undone_at else ""
    told = told_of(found.revocation, found.publisher, rules)
    return harmless(f"{found.revocation.number}  {moment(found.revoked_at, rules)}  {told}{undone}: {found.reason}")


def _local(instant: datetime | None, rules: Rules) -> datetime | None:
    return instant.replace(tzinfo=rules.zone) if instant is not None and instant.tzinfo is None else instant
