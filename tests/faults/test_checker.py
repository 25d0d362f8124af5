"""The checker on journals written by hand: it finds nothing in an honest one, and each broken promise by its name."""

from __future__ import annotations

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


PUBLISHED, END = truth().published[:2], truth().published[-1]
DIP = replace(truth(), published=[*PUBLISHED, (2.0, {"c01": 0, "c02": 0}), END])
RECORD = [(code, receipt_of(code, voter)) for code, voter in truth().ledger]
UNHEARD = [each for each in journal() if each.voter != BEN or each.heard is Heard.unknown]


def with_row(code: str, voter: bytes) -> Truth:
    return truth([*truth().ledger, (code, voter)])


def with_receipt(receipt: str | None) -> list[Attempt]:
    attempts = journal()
    attempts[1].results["c01"] = ("already_liked", receipt)
    return attempts


@pytest.mark.parametrize(
    ("what", "attempts", "found", "kinds"),
    [
        ("an honest run", journal(), replace(truth(), sealed_s=6.5, undurable=[(2.9, 4.1)], record=RECORD[::-1]), ""),
        ("an acknowledged like in no ledger", journal(), truth([("c02", ANN), ("c01", BEN)]), "lost"),
        ("a like acknowledged only to a repeat", journal(), truth([("c01", ANN), ("c02", ANN)]), "lost"),
        ("two rows of one like", journal(), with_row("c01", ANN), "double exceeded"),
        ("counts above the rows", journal(), replace(truth(), counts={**truth().counts, "c01": 3}), "double unequal"),
        ("a store above the rows", journal(), replace(truth(), store={**truth().store, "c01": 3}), "double unequal"),
        ("counts below the rows", journal(), replace(truth(), counts={**truth().counts, "c01": 1}), "unequal"),
        ("a store below the rows", journal(), replace(truth(), store={**truth().store, "c01": 1}), "unequal"),
        ("two answers of counted", [*journal(), attempt(ANN, 7.0, Heard.ok, c01="counted")], truth(), "double"),
        ("a row that nobody asked for", journal(), with_row("c03", b"zoe"), "invented unequal"),
        ("published below the ledger", journal(), replace(truth(), published=PUBLISHED), "unequal"),
        ("a refused like in the ledger", journal(), with_row("c02", EVE), "unequal"),
        ("a like over the quota in the ledger", journal(), with_row("c03", ANN), "quota unequal"),
        ("a like that stays unknown, in the ledger", UNHEARD, truth(), ""),
        ("a like that stays unknown, in no ledger", UNHEARD, truth([("c01", ANN), ("c02", ANN)]), ""),
        ("a published number that falls, and rises again", journal(), DIP, "fell"),
        ("a number that falls while the ledger lacks likes", journal(), replace(DIP, lacking=[(1.8, 3.0)]), ""),
        ("a number that falls before it lacks them", journal(), replace(DIP, lacking=[(2.5, 3.0)]), "fell"),
        (
            "a number that is less after the ledger lacked likes",
            journal(),
            replace(DIP, published=[*DIP.published[:-1], (4.0, {"c01": 0, "c02": 1}), END], lacking=[(1.8, 3.0)]),
            "fell",
        ),
        (
            "a candidate that vanishes from the published numbers",
            journal(),
            replace(truth(), published=[*PUBLISHED, (2.0, {"c01": 1}), END]),
            "fell",
        ),
        (
            "a number published before anybody asked: Ben's like was at 3.0",
            journal(),
            replace(truth(), published=[(1.5, {"c01": 2, "c02": 1}), END]),
            "exceeded",
        ),
        ("a receipt of somebody else", with_receipt("c01-ben"), truth(), "receipt"),
        ("no receipt at all", with_receipt(None), truth(), "receipt"),
        ("a like asked after the close, and counted", journal(), replace(truth(), sealed_s=-1.0), "sealed"),
        ("a like asked before the close, answered after it", journal(), replace(truth(), sealed_s=0.5), ""),
        ("a 200 while nothing is durable", journal(), replace(truth(), undurable=[(4.9, 6.1)]), "undurable"),
        ("a 200 to what was asked before", journal(), replace(truth(), undurable=[(5.1, 7.0)]), ""),
        ("a 200 that was answered after", journal(), replace(truth(), undurable=[(4.0, 5.9)]), ""),
        ("a public record that lacks a like", journal(), replace(truth(), record=RECORD[:-1]), "record"),
        ("a public record with another", journal(), replace(truth(), record=[*RECORD, ("c03", "c03-eve")]), "record"),
        ("a public record with one twice", journal(), replace(truth(), record=[*RECORD, RECORD[0]]), "record"),
    ],
)
def test_what_the_checker_finds(what: str, attempts: list[Attempt], found: Truth, kinds: str) -> None:
    assert " ".join(sorted({violation.kind for violation in check(attempts, found)})) == kinds, what


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
