"""The load test's verdict: it passes an honest run, and every way to be dishonest fails the check meant for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from loadtests.checks import DETAILS_MAX, Check, Verdict, same
from loadtests.load import journal
from loadtests.load.journal import Baseline, Journal, Target
from loadtests.load.verdict import Answer, Evidence, Identity, Watch, judge

TODAY = "2026-11-24T00:00:00+08:00"
ANN_C1 = Identity("ann", "c1", TODAY)
ANN_C2 = Identity("ann", "c2", TODAY)
BOB_C1 = Identity("bob", "c1", TODAY)

ONCE = "answers `counted` = distinct likes counted"
TOLD = "likes standing that nobody was told were counted"
RECEIPT = "likes whose receipt changed or is missing"
RECORD = "likes answered = public record of the ledger"
PUBLISHED = "likes answered = published, candidate by candidate"
QUOTA = "voters with more than 2 likes in a window"
REFUSED = "voters refused before their quota was used"


def honest() -> Evidence:
    """Ann likes two candidates and is refused a third, Bob likes one and asks again: three likes everywhere."""
    answers = [
        Answer(ANN_C1, "counted", "R1"),
        Answer(ANN_C2, "counted", "R2"),
        Answer(Identity("ann", "c3", TODAY), "over_quota", None),
        Answer(BOB_C1, "counted", "R3"),
        Answer(BOB_C1, "already_liked", "R3"),
    ]
    return Evidence(
        quota=2,
        answers=answers,
        totals={"store": 3, "counts": 3, "ledger": 3, "identities": 3},
        record={("c1", "R1"): 1, ("c2", "R2"): 1, ("c1", "R3"): 1},
        published={"c1": 2, "c2": 1, "c3": 0},
        published_sum=3,
    )


def failed(evidence: Evidence) -> set[str]:
    """Names of the checks that do not hold."""
    return {check.name for check in judge(evidence).checks if not check.holds}


def with_answer(*more: Answer) -> Evidence:
    """The honest run with answers more."""
    return replace(honest(), answers=[*honest().answers, *more])


def without_row(evidence: Evidence, pair: tuple[str, str]) -> Evidence:
    """The ledger lost one row."""
    record = {key: n for key, n in evidence.record.items() if key != pair}
    return replace(evidence, record=record, totals={**evidence.totals, "ledger": 2, "identities": 2})


def test_an_honest_run_passes() -> None:
    assert judge(honest()).holds


@pytest.mark.parametrize(
    ("evidence", "failing"),
    [
        pytest.param(
            without_row(honest(), ("c1", "R1")),
            {RECORD, "likes answered = ledger", "likes answered = identities"},
            id="a like lost from the ledger",
        ),
        pytest.param(
            replace(honest(), totals={**honest().totals, "store": 2}), {"likes answered = store"}, id="store behind"
        ),
        pytest.param(
            replace(honest(), totals={**honest().totals, "counts": 4}), {"likes answered = counts"}, id="count doubled"
        ),
        pytest.param(
            replace(honest(), record={**honest().record, ("c1", "R1"): 2}), {RECORD}, id="a like doubled in the ledger"
        ),
        pytest.param(
            replace(honest(), record={("c1", "R9"): 1, ("c2", "R2"): 1, ("c1", "R3"): 1}),
            {RECORD},
            id="one like in the place of another, same sums",
        ),
        pytest.param(with_answer(Answer(ANN_C1, "counted", "R1")), {ONCE}, id="a like answered counted twice"),
        pytest.param(with_answer(Answer(ANN_C1, "already_liked", "R8")), {RECEIPT, RECORD}, id="a changed receipt"),
        pytest.param(with_answer(Answer(ANN_C1, "already_liked", None)), {RECEIPT, RECORD}, id="a missing receipt"),
        pytest.param(
            replace(honest(), published={"c1": 1, "c2": 2, "c3": 0}), {PUBLISHED}, id="published for another, same sum"
        ),
        pytest.param(replace(honest(), published_sum=4), {"likes answered = published sum"}, id="published sum"),
        pytest.param(replace(honest(), falls=["c1 fell"]), {"published numbers that fell"}, id="a fallen number"),
        pytest.param(
            replace(honest(), unresolved=[("eve", "c1")]), {"likes never answered"}, id="a like never answered"
        ),
        pytest.param(replace(honest(), refused={500: 1}), {"like requests refused"}, id="a refused request"),
        pytest.param(
            replace(honest(), recount_differences=["candidate 1: …"]),
            {"candidates on which the recount differs"},
            id="recount differs under equal sums",
        ),
        pytest.param(
            with_answer(Answer(Identity("bob", "c3", TODAY), "over_quota", None)), {REFUSED}, id="refused too early"
        ),
    ],
)
def test_each_difference_fails_its_check_and_no_other(evidence: Evidence, failing: set[str]) -> None:
    assert failed(evidence) == failing


def test_a_voter_over_the_quota_fails() -> None:
    assert QUOTA in failed(with_answer(Answer(Identity("ann", "c3", TODAY), "counted", "R4")))


def test_a_run_without_likes_proves_nothing() -> None:
    assert not judge(Evidence(quota=2, answers=[])).holds


def test_the_same_candidate_in_the_next_window_is_another_like() -> None:
    tomorrow = Answer(Identity("ann", "c1", "2026-11-25T00:00:00+08:00"), "counted", "R4")
    evidence = replace(
        with_answer(tomorrow),
        totals=dict.fromkeys(honest().totals, 4),
        record={**honest().record, ("c1", "R4"): 1},
        published={"c1": 3, "c2": 1, "c3": 0},
        published_sum=4,
    )
    assert judge(evidence).holds


def test_a_like_whose_counted_answer_was_lost_counts_but_one_that_nobody_lost_is_a_ghost() -> None:
    answers = [answer for answer in honest().answers if answer != Answer(BOB_C1, "counted", "R3")]
    ghost = replace(honest(), answers=answers)
    assert failed(ghost) == {TOLD}
    excused = replace(ghost, lost=frozenset({("bob", "c1")}))
    assert judge(excused).holds
    assert (excused.likes, excused.confirmed) == (3, 1)


def test_what_differs_is_named() -> None:
    checks = {check.name: check for check in judge(without_row(honest(), ("c1", "R3"))).checks}
    assert [line for line in checks[RECORD].differing if "bob" in line and "c1" in line and "R3" in line]


@pytest.mark.parametrize(
    ("found", "differing"),
    [
        pytest.param({"a": 2, "b": 1}, [], id="the same"),
        pytest.param({"a": 2, "b": 1, "c": 0}, [], id="none is as good as missing"),
        pytest.param(
            {"a": 1, "b": 2}, ["a: expected 2, found 1", "b: expected 1, found 2"], id="other numbers, the same sum"
        ),
        pytest.param({"a": 2}, ["b: expected 1, found 0"], id="one is missing"),
        pytest.param({"a": 2, "b": 1, "c": 4_000}, ["c: expected 0, found 4,000"], id="one too many"),
    ],
)
def test_two_tables_are_the_same_key_by_key(found: dict[str, int], differing: list[str]) -> None:
    check = same("tables", {"a": 2, "b": 1}, found)
    assert (check.holds, check.differing) == (not differing, differing)


def test_a_verdict_prints_each_equality_and_the_first_of_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    many = [f"like {n}" for n in range(DETAILS_MAX + 5)]
    Verdict([Check("likes", 3, 3), Check("lost", 0, len(many), many)]).show()

    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == ["ok likes 3 3", "FAIL lost 0 15", *many[:DETAILS_MAX], "and 5 more", "DIFFERENT"]


@pytest.mark.parametrize(
    ("reads", "falls"),
    [
        pytest.param([("a", 1), ("a", 1), ("a", 5)], 0, id="rises"),
        pytest.param([("a", 5), ("a", 4)], 1, id="falls for one reader"),
        pytest.param([("a", 5), ("b", 4)], 0, id="another reader may be behind"),
        pytest.param([("a", 5), ("b", 4), ("a", 4), ("b", 3)], 2, id="falls for two"),
    ],
)
def test_the_watch_notes_every_fall(reads: list[tuple[str, int]], falls: int) -> None:
    told: list[str] = []
    watch = Watch(told.append)
    for reader, number in reads:
        watch.see(reader, [("c1", number)])
    assert len(watch.falls) == len(told) == falls


def written(path: Path, tell: Callable[[Journal], None]) -> journal.Story:
    """A journal written and read back."""
    target = Target("http://v", "http://r", "demo", None, 2, ("c1", "c2"))
    with Journal(path) as writing:
        writing.head(target, Baseline({"ledger": 7}, Counter({("c1", "R0"): 1}), {"c1": 7}, 7))
        tell(writing)
    return journal.read(path)


def test_a_journal_tells_what_was_written(tmp_path: Path) -> None:
    def tell(writing: Journal) -> None:
        result = {"candidate": "c1", "status": "counted", "receipt": "R1"}
        writing.asked(0, "ann", ["c1"])
        writing.lost(0, "HTTP 503")
        writing.answered(0, {"results": [result], "resets_at": TODAY})
        writing.asked(1, "bob", ["c1", "c2"])
        writing.fell("c1 fell")
        writing.refused(2, 500)

    story = written(tmp_path / "journal.jsonl", tell)
    assert story.answers == [Answer(ANN_C1, "counted", "R1")]
    assert story.baseline.record == {("c1", "R0"): 1}
    assert (story.open, story.lost, story.falls, story.refused) == ([1], {0: 1}, ["c1 fell"], {500: 1})


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    other = tmp_path / "journal.jsonl"
    other.write_text('["asked", 1, "ann", ["c1"]]\n')
    with pytest.raises(ValueError, match="journal"):
        journal.read(other)
