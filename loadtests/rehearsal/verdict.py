"""Whether everything that was sent in a rehearsal is counted, to the like: by candidate, by day, by voter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from dianzan.ledger.records import Seal
from dianzan.life.recount import Recount
from loadtests.checks import Check, Verdict, same
from loadtests.rehearsal.plan import Expected


def judge(
    expected: Expected,
    counted: Recount,
    windows: Mapping[tuple[date, int], int],
    sealed: Seal,
    days: Sequence[date],
) -> Verdict:
    """Compare a plan with what was counted; `windows` is the ledger's likes per (window, candidate index)."""
    every = {
        "counters of the store": counted.store,
        "counts in PostgreSQL": counted.counts,
        "rows of the ledger": counted.ledger,
        "distinct likes in the ledger": counted.identities,
        "sealed tally": {candidate: tally.likes for candidate, (_rank, tally) in sealed.tallies.items()},
    }
    totals = expected.totals
    checks = [same(f"likes sent = {name}", totals, likes, "candidate {}".format) for name, likes in every.items()]
    sent = {(days[day], candidate): likes for (day, candidate), likes in expected.likes.items()}
    checks.append(same("likes sent = rows of the ledger, day by day", sent, windows, _candidate_on_day))
    checks.append(Check("likes sent = sum of the sealed tally", sum(sent.values()), sealed.likes))
    people = {"distinct voters in the ledger": counted.people.get(0, 0), "people of the sealed tally": sealed.people}
    checks += [Check(f"voters sent = {name}", expected.people, found) for name, found in people.items()]
    return Verdict(checks)


def _candidate_on_day(key: tuple[date, int]) -> str:
    return f"candidate {key[1]} on {key[0]}"
