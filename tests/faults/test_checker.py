"""The checker on journals written by hand: it finds nothing in an honest one, and each broken promise by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.checker import Identity, Truth, acknowledged, check, unresolved
from tests.faults.journal import Attempt, Heard

ANN, BEN, EVE = b"ann", b"ben", b"eve"
QUOTA = 2


def receipt_of(code: str, voter: bytes) -> str:
    return f"{code}-{voter.decode()}"


def attempt(voter: bytes, asked_s: float, heard: Heard, **statuses: str) -> Attempt:
    """An attempt of a second; a refused like is written as `c01="over_quota"` and has no receipt."""
    made = Attempt(int(asked_s * 10), voter, tuple(statuses), 0, asked_s, asked_s, asked_s + 1.0, heard)
    if heard is Heard.ok:
        made.results = {
            code: (status, receipt_of(code, voter) if status in ("counted", "already_liked") else None)
            for code, status in statuses.items()
        }
    return made


def journal() -> list[Attempt]:
    """Ann likes two and repeats one; Ben's like is unknown and asked again; Eve is refused."""
    return [
        attempt(ANN, 0.0, Heard.ok, c01="counted", c02="counted"),
        attempt(ANN, 1.0, Heard.ok, c01="already_liked"),
        attempt(ANN, 2.0, Heard.ok, c03="over_quota"),
        attempt(BEN, 3.0, Heard.unknown, c01=""),
        attempt(BEN, 5.0, Heard.ok, c01="already_liked"),
        attempt(EVE, 6.0, Heard.fail, c02=""),
    ]


def truth(ledger: list[Identity] | None = None) -> Truth:
    rows = [("c01", ANN), ("c02", ANN), ("c01", BEN)] if ledger is None else ledger
    likes = {code: sum(row[0] == code for row in rows) for code in ("c01", "c02", "c03")}
    published = [(0.5, {"c01": 0, "c02": 0}), (1.5, {"c01": 1, "c02": 1}), (9.0, likes)]
    return Truth(QUOTA, receipt_of, rows, likes, likes, published)


def kinds(attempts: list[Attempt], found: Truth) -> set[str]:
    return {violation.kind for violation in check(attempts, found)}


def test_an_honest_run_breaks_no_promise() -> None:
    found = replace(truth(), sealed_s=6.5, undurable=[(2.9, 4.1)], record=[])
    found.record = [("c01", "c01-ben"), ("c01", "c01-ann"), ("c02", "c02-ann")]
    assert check(journal(), found) == []


def test_an_acknowledged_like_that_is_in_no_ledger_is_lost() -> None:
    assert "lost" in kinds(journal(), truth([("c02", ANN), ("c01", BEN)]))


def test_a_like_acknowledged_only_to_a_repeat_is_lost_as_well() -> None:
    assert "lost" in kinds(journal(), truth([("c01", ANN), ("c02", ANN)]))


def test_two_rows_of_one_like_are_double() -> None:
    assert "double" in kinds(journal(), truth([("c01", ANN), ("c01", ANN), ("c02", ANN), ("c01", BEN)]))


@pytest.mark.parametrize("where", ["counts", "store"])
def test_a_count_above_the_rows_is_double(where: str) -> None:
    found = truth()
    setattr(found, where, {**found.counts, "c01": 3})
    assert kinds(journal(), found) == {"double", "unequal"}


def test_a_like_that_two_answers_call_counted_is_double() -> None:
    attempts = [*journal(), attempt(ANN, 7.0, Heard.ok, c01="counted")]
    assert kinds(attempts, truth()) == {"double"}


def test_a_row_that_nobody_asked_for_is_invented() -> None:
    assert "invented" in kinds(journal(), truth([*truth().ledger, ("c03", b"zoe")]))


@pytest.mark.parametrize("where", ["counts", "store"])
def test_a_count_below_the_rows_is_unequal(where: str) -> None:
    found = truth()
    setattr(found, where, {**found.counts, "c01": 1})
    assert kinds(journal(), found) == {"unequal"}


def test_published_numbers_that_do_not_come_to_the_ledger_are_unequal() -> None:
    found = truth()
    assert kinds(journal(), replace(found, published=found.published[:-1])) == {"unequal"}


def test_a_like_that_was_certainly_refused_and_stands_in_the_ledger_is_unequal() -> None:
    assert kinds(journal(), truth([*truth().ledger, ("c02", EVE)])) == {"unequal"}


def test_a_like_over_the_quota_that_stands_in_the_ledger_breaks_both() -> None:
    assert kinds(journal(), truth([*truth().ledger, ("c03", ANN)])) == {"unequal", "quota"}


def test_a_like_that_stays_unknown_may_be_in_the_ledger_or_not() -> None:
    attempts = [each for each in journal() if each.voter != BEN or each.heard is Heard.unknown]
    assert kinds(attempts, truth()) == set()
    assert kinds(attempts, truth([("c01", ANN), ("c02", ANN)])) == set()


def test_a_published_number_that_falls_is_found_even_where_it_rises_again() -> None:
    found = truth()
    published = [*found.published[:2], (2.0, {"c01": 0, "c02": 1}), found.published[2]]
    assert kinds(journal(), replace(found, published=published)) == {"fell"}


def test_a_published_number_may_fall_only_while_the_ledger_lacks_likes() -> None:
    found = truth()
    published = [*found.published[:2], (2.0, {"c01": 0, "c02": 0}), found.published[2]]
    dips = replace(found, published=published)
    assert kinds(journal(), replace(dips, lacking=[(1.8, 3.0)])) == set()
    assert kinds(journal(), replace(dips, lacking=[(2.5, 3.0)])) == {"fell"}


def test_a_published_number_that_is_less_after_the_ledger_lacked_likes_has_fallen() -> None:
    found = truth()
    published = [*found.published[:2], (2.0, {"c01": 0, "c02": 0}), (4.0, {"c01": 0, "c02": 1}), found.published[2]]
    assert kinds(journal(), replace(found, published=published, lacking=[(1.8, 3.0)])) == {"fell"}


def test_a_candidate_that_vanishes_from_the_published_numbers_has_fallen() -> None:
    found = truth()
    published = [*found.published[:2], (2.0, {"c01": 1}), found.published[2]]
    assert kinds(journal(), replace(found, published=published)) == {"fell"}


def test_a_number_published_before_anybody_asked_exceeds() -> None:
    found = truth()
    published = [(1.5, {"c01": 2, "c02": 1}), found.published[2]]  # Ben's like was asked for at 3.0
    assert kinds(journal(), replace(found, published=published)) == {"exceeded"}


@pytest.mark.parametrize("receipt", ["c01-ben", None])
def test_a_receipt_of_somebody_else_or_none_at_all_is_found(receipt: str | None) -> None:
    attempts = journal()
    attempts[1].results["c01"] = ("already_liked", receipt)
    assert kinds(attempts, truth()) == {"receipt"}


def test_a_like_that_was_asked_after_the_close_must_not_be_counted() -> None:
    assert kinds(journal(), replace(truth(), sealed_s=-1.0)) == {"sealed"}


def test_a_like_asked_before_the_close_and_answered_after_it_may_be_counted() -> None:
    assert kinds(journal(), replace(truth(), sealed_s=0.5)) == set()


def test_an_answer_of_200_while_nothing_is_durable_is_found() -> None:
    assert kinds(journal(), replace(truth(), undurable=[(4.9, 6.1)])) == {"undurable"}


@pytest.mark.parametrize("interval", [(5.1, 7.0), (4.0, 5.9)])
def test_an_answer_to_what_began_or_ended_outside_is_not(interval: tuple[float, float]) -> None:
    assert kinds(journal(), replace(truth(), undurable=[interval])) == set()


@pytest.mark.parametrize(
    "broken",
    [
        lambda record: record.pop(),
        lambda record: record.append(("c03", "c03-eve")),
        lambda record: record.append(record[0]),
    ],
    ids=["lacks a like", "has another", "has one twice"],
)
def test_a_public_record_that_is_not_the_ledger_is_found(broken: Callable[[list[tuple[str, str]]], None]) -> None:
    record = [(code, receipt_of(code, voter)) for code, voter in truth().ledger]
    broken(record)
    assert kinds(journal(), replace(truth(), record=record)) == {"record"}


def test_at_most_three_examples_of_a_kind_are_given() -> None:
    attempts = [attempt(bytes([number]), 0.0, Heard.ok, c01="counted") for number in range(9)]
    found = check(attempts, truth([]))
    assert [violation.kind for violation in found].count("lost") == 3


def test_what_is_acknowledged_and_what_nobody_knows() -> None:
    attempts = journal()
    assert acknowledged(attempts) == {("c01", ANN), ("c02", ANN), ("c01", BEN)}
    assert unresolved(attempts) == set()
    assert unresolved(attempts[:4]) == {("c01", BEN)}
    assert unresolved([attempt(EVE, 0.0, Heard.fail, c02="")]) == set()


def test_an_attempt_that_was_never_heard_of_is_unresolved() -> None:
    assert unresolved([Attempt(1, EVE, ("c03",), 0, 0.0)]) == {("c03", EVE)}
