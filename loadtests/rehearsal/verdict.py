"""Whether everything that was sent in a rehearsal is counted, to the like: by candidate, by day, by voter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from dianzan.ledger.records import Seal
from dianzan.life.lifecycle import Lifecycle
from dianzan.life.recount import Recount
from dianzan.life.seal import Sealer
from loadtests.rehearsal.database import Database
from loadtests.rehearsal.plan import Expected, Plan

Windows = Mapping[tuple[date, int], int]  # (window, candidate index) -> likes

DRAIN_S_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was sent by the plan, what was counted, and one sentence a difference."""

    sent: int
    counted: Recount
    sealed: Seal
    differences: list[str]


async def judge(plan: Plan, campaign: str, sealer: Sealer, lifecycle: Lifecycle, database: Database) -> Verdict:
    """Seal the campaign, and compare its counts with the plan.

    Raises CampaignError where the seal is refused: the four counts differ, or the streams do not empty.
    """
    counted, sealed = await sealer.seal(campaign, drain_s_max=DRAIN_S_MAX)
    stored = await lifecycle.stored(campaign)
    expected = plan.expected()
    windows = await database.windows(stored.number)
    found = differences(expected, counted, windows, sealed, stored.rules.window_dates())
    return Verdict(plan.likes, counted, sealed, found)


def differences(
    expected: Expected, counted: Recount, windows: Windows, sealed: Seal, days: Sequence[date]
) -> list[str]:
    """One sentence a number that is not what was sent."""
    totals = expected.totals
    four = {
        "store": counted.store,
        "counts": counted.counts,
        "ledger": counted.ledger,
        "distinct likes": counted.identities,
        "sealed tally": {candidate: tally.likes for candidate, (_rank, tally) in sealed.tallies.items()},
    }
    found = [
        f"candidate {candidate}: {totals.get(candidate, 0):,} sent, {name} {count.get(candidate, 0):,}"
        for name, count in four.items()
        for candidate in sorted(totals.keys() | count.keys())
        if count.get(candidate, 0) != totals.get(candidate, 0)
    ]
    sent = {(days[day], candidate): likes for (day, candidate), likes in expected.likes.items()}
    found += [
        f"candidate {key[1]} on {key[0]}: {sent.get(key, 0):,} sent, ledger {windows.get(key, 0):,}"
        for key in sorted(sent.keys() | windows.keys())
        if sent.get(key, 0) != windows.get(key, 0)
    ]
    people = {"ledger": counted.people.get(0, 0), "sealed tally": sealed.people}
    return found + [
        f"voters: {expected.people:,} sent, {name} {count:,}"
        for name, count in people.items()
        if count != expected.people
    ]
