"""The public record: every like by its receipt, in an order that tells nobody who liked which two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from typing import NamedTuple

from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign


class RecordedLikes(NamedTuple):
    """The receipts of one candidate in one window, sorted."""

    window: date
    candidate: str
    receipts: list[str]


async def public_record(ledger: Ledger, campaign: StoredCampaign) -> AsyncIterator[RecordedLikes]:
    """Every like of the ledger, window by window and candidate by candidate.

    Receipts are sorted: an order by voter would tell who liked which two. One group is held in memory, about 75 bytes
    a like.
    """
    document = await ledger.campaigns.document(campaign)
    group: tuple[date, int] | None = None
    receipts: list[str] = []
    async for day, candidate, voter in ledger.likes.record(campaign):
        if group is not None and group != (day, candidate):
            yield RecordedLikes(group[0], document.candidates[group[1] - 1], sorted(receipts))
            receipts = []
        group = day, candidate
        receipts.append(document.key.receipt(document.rules.window_on(day).day, candidate, voter))
    if group is not None:
        yield RecordedLikes(group[0], document.candidates[group[1] - 1], sorted(receipts))
