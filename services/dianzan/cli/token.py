"""`dianzan token`: voter tokens for operators and load tests."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from dianzan.cli.campaign import Id
from dianzan.cli.stores import DATA_DEFAULT, Data, Stores, run
from dianzan.domain.campaign import Document
from dianzan.domain.limits import TOKEN_LIFE_S, TOKENS_MINTED_MAX
from dianzan.domain.voters import Voter, VoterClass


def _voter_class(named: str | VoterClass) -> VoterClass:
    """Typer runs a parser over the default value too."""
    if isinstance(named, VoterClass):
        return named
    if named not in VoterClass.__members__:
        raise typer.BadParameter(f"{named!r} is none of {', '.join(VoterClass.__members__)}.")
    return VoterClass[named]


def token(
    campaign: Id,
    subject: Annotated[list[str] | None, typer.Option(help="Whose token; the same subject is the same voter.")] = None,
    count: Annotated[int, typer.Option(min=0, max=TOKENS_MINTED_MAX, help="How many tokens of random voters.")] = 0,
    voter_class: Annotated[VoterClass, typer.Option("--class", parser=_voter_class)] = VoterClass.device,
    data: Data = DATA_DEFAULT,
) -> None:
    """Print voter tokens, one a line."""

    async def work(stores: Stores) -> Document:
        return await stores.ledger.campaigns.document(await stores.lifecycle.stored(campaign))

    document = run(data, work)
    if not subject and not count:
        typer.secho("Name voters with --subject, or ask for random ones with --count.", err=True)
        raise typer.Exit(2)
    expires_s = int(time.time()) + TOKEN_LIFE_S
    subjects = [os.fsencode(name) for name in subject or []] + [os.urandom(16) for _ in range(count)]
    for name in subjects:
        voter = Voter(document.key.voter_hash("operator", name), voter_class, 0)
        typer.echo(document.key.token(voter, expires_s))
