"""`dianzan token`: voter tokens for operators and load tests."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from dianzan.cli.arguments import Id
from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, run
from dianzan.domain.campaign import Document
from dianzan.domain.limits import TOKENS_MINTED_MAX
from dianzan.domain.voters import Voter, VoterClass


def class_named(named: str | VoterClass | None) -> VoterClass | None:
    """Typer runs a parser over the default value too."""
    if named is None or isinstance(named, VoterClass):
        return named
    if named not in VoterClass.__members__:
        raise typer.BadParameter(f"{named!r} is none of {', '.join(VoterClass.__members__)}.")
    return VoterClass[named]


def token(
    campaign: Id,
    subject: Annotated[list[str] | None, typer.Option(help="Whose token; the same subject is the same voter.")] = None,
    count: Annotated[int, typer.Option(min=0, max=TOKENS_MINTED_MAX, help="How many tokens of random voters.")] = 0,
    voter_class: Annotated[VoterClass, typer.Option("--class", parser=class_named)] = VoterClass.device,
    data: Data = DATA_DEFAULT,
) -> None:
    """Print voter tokens, one a line. How many were made is kept, and `dianzan campaign show` tells it."""
    if not subject and not count:
        typer.secho("Name voters with --subject, or ask for random ones with --count.", err=True)
        raise typer.Exit(2)

    async def work(stores: Stores) -> Document:
        stored = await stores.lifecycle.stored(campaign)
        document = await stores.ledger.campaigns.document(stored)
        await stores.ledger.campaigns.keep_minted(stored, voter_class, len(subject or []) + count)
        return document

    document = run(data, work)
    # Worthless before the campaign opens; made in advance its life begins there.
    made_s = max(int(time.time()), document.rules.opens_ms // 1000)
    subjects = [os.fsencode(name) for name in subject or []] + [os.urandom(16) for _ in range(count)]
    for name in subjects:
        voter = Voter(document.key.voter_hash("operator", name), voter_class, 0)
        typer.echo(document.key.token(voter, made_s))
