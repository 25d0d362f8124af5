"""What an operator is asked before a campaign ends, which nothing undoes."""

from __future__ import annotations

from typing import Annotated

import typer

from dianzan.cli.asking import require_agreement
from dianzan.cli.stores import Stores
from dianzan.domain.campaign import State
from dianzan.domain.errors import CampaignError

Early = Annotated[str, typer.Option(help="Why the campaign ends before `closes`; kept with it.", metavar="REASON")]


async def confirm_end(stores: Stores, campaign_id: str, *, early: str, yes: bool) -> None:
    """Return if the operator knows what ends. A campaign that is over, or was never published, is not asked about.

    Raises CampaignError for one that ends early without a reason, DianzanError without a terminal or a yes.
    """
    campaign = await stores.lifecycle.stored(campaign_id)
    if campaign.state is not State.published:
        return
    closes = campaign.rules.closes.astimezone(campaign.rules.zone).strftime("%Y-%m-%d %H:%M")
    left = campaign.rules.closes - await stores.ledger.now()
    if left.total_seconds() > 0 and not early.strip():
        raise CampaignError(
            f"Campaign {campaign_id} takes likes until {closes}, and ending it now is permanent. "
            "If that is meant, write why: --early REASON."
        )
    counts = await stores.ledger.recounts.counts(campaign)
    ends = f"is in {left.days} days and {left.seconds // 3600} hours" if left.total_seconds() > 0 else "has passed"
    told = (
        f"Campaign {campaign_id} ({campaign.rules.title}) has {sum(counts.values()):,} likes so far, and `closes` "
        f"{ends}. It will never take a like again."
    )
    if yes:
        return
    typer.echo(told, err=True)
    require_agreement("End it?", yes=False)
