"""The step that removes the dedup marks of windows long past."""

from __future__ import annotations

from datetime import timedelta

from dianzan.domain.limits import MARKS_STAND_DAYS
from dianzan.domain.windows import from_ms, to_ms
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import StoredCampaign
from dianzan.store.store import Store


async def drop_old_marks(store: Store, ledger: Ledger, campaign: StoredCampaign, at_ms: int) -> int:
    """Remove the marks of every window that ended MARKS_STAND_DAYS before `at_ms`; returns the bucket hashes removed.

    The ledger remembers the last window, so none is visited twice. Whether `at_ms` can be trusted is the caller's to
    know: what is removed too early is counted again.
    """
    stand_from_ms = to_ms(from_ms(at_ms) - timedelta(days=MARKS_STAND_DAYS))
    removed = 0
    for day in campaign.rules.window_dates():
        if campaign.swept_through is not None and day <= campaign.swept_through:
            continue
        window = campaign.rules.window_on(day)
        if window.end_ms > stand_from_ms:
            break
        removed += await store.marks.drop(campaign.rules, window.day)
        await ledger.campaigns.set_swept(campaign, day)
    return removed
