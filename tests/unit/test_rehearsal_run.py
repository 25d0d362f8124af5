"""Where a rehearsal goes on, and which answers of the store end it."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from loadtests.rehearsal.figures import Figures, RehearsalError
from loadtests.rehearsal.plan import Packed, Plan
from loadtests.rehearsal.run import Rehearsal, _require_right, _rules
from loadtests.shapes import DAYS

from dianzan.cli.stores import Stores
from dianzan.domain.campaign import Rules, State
from dianzan.domain.errors import ApiError, Closed
from dianzan.domain.wire import Outcome
from dianzan.ledger.records import StoredCampaign

PLAN = Plan(1_000, 7)
RULES = _rules(PLAN)
NOBODY = cast("Any", None)


def rehearsal(figures: Figures, rules: Rules = RULES, swept_through: date | None = None) -> Rehearsal:
    """One whose campaign is known, without stores."""
    made = Rehearsal(
        PLAN,
        figures,
        Path(),
        Stores(NOBODY, NOBODY, NOBODY, NOBODY, NOBODY),
        client=NOBODY,
        meter=NOBODY,
        death=NOBODY,
        stopping=asyncio.Event(),
    )
    made._stored = StoredCampaign(1, rules, 2, State.published, 1, bytes(32), swept_through)
    return made


def opened(days_ago: int) -> Rules:
    """Rules of a rehearsal that was begun then."""
    return RULES.model_copy(update={"opens": datetime.now(UTC) - timedelta(days=days_ago, hours=1)})


def test_the_campaign_has_a_window_for_every_day_and_is_open_now() -> None:
    assert len(RULES.window_dates()) == len(DAYS)
    assert RULES.opens <= datetime.now(UTC) < RULES.closes


async def test_it_goes_on_where_the_figures_say() -> None:
    figures = Figures(likes=1_000, seed=7, day=12, batch=3)

    assert await rehearsal(figures, swept_through=RULES.window_dates()[4])._first_day() == 12
    assert figures.batch == 3


async def test_a_day_whose_marks_are_swept_is_never_sent_again() -> None:
    figures = Figures(likes=1_000, seed=7, day=2, batch=3)

    assert await rehearsal(figures, swept_through=RULES.window_dates()[4])._first_day() == 5
    assert figures.batch == 0


async def test_one_begun_so_long_ago_that_the_worker_would_sweep_it_is_refused() -> None:
    assert await rehearsal(Figures(likes=1_000, seed=7, day=2), opened(days_ago=6))._first_day() == 2
    with pytest.raises(RehearsalError, match="began 7 days ago"):
        await rehearsal(Figures(likes=1_000, seed=7, day=2), opened(days_ago=7))._first_day()


async def test_one_that_has_sent_all_is_only_compared_however_old() -> None:
    assert await rehearsal(Figures(likes=1_000, seed=7, day=20), opened(days_ago=9))._first_day() == 20


FIRST = Packed(0, b"", [2, 1], again=False)
AGAIN = Packed(0, b"", [2, 1], again=True)


def answer(*statuses: bytes) -> list[Outcome]:
    return [Outcome(each, 5) for each in statuses]


def test_likes_may_be_new_or_known_since_a_batch_is_sent_again_after_a_kill() -> None:
    _require_right(answer(b"cc", b"c"), FIRST)
    _require_right(answer(b"ca", b"a"), FIRST)
    _require_right(answer(b"aa", b"a"), AGAIN)


@pytest.mark.parametrize(
    ("reply", "sent", "said"),
    [
        (answer(b"cq", b"c"), FIRST, "of 3 likes within quota the store answered 2 counted, 0 already liked"),
        (answer(b"aa", b"c"), AGAIN, "of 3 likes sent again the store answered 1 counted, 2 already liked"),
        (Closed("Voting has ended."), FIRST, "The store refused: closed, Voting has ended."),
    ],
)
def test_any_other_answer_ends_it(reply: list[Outcome] | ApiError, sent: Packed, said: str) -> None:
    with pytest.raises(RehearsalError, match=said):
        _require_right(reply, sent)
