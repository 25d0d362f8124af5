"""Four counts agree on every candidate, or the recount says on which they do not."""

from collections.abc import Mapping

import pytest

from dianzan.life.recount import Recount

Counts = Mapping[int, int]
SAME: Counts = {1: 5, 2: 3}


def counted(store: Counts = SAME, counts: Counts = SAME, ledger: Counts = SAME, identities: Counts = SAME) -> Recount:
    return Recount(store, counts, ledger, identities, people={0: 6}, waiting=0)


@pytest.mark.parametrize(
    ("found", "differing"),
    [
        pytest.param(counted(), [], id="all the same"),
        pytest.param(counted({}, {}, {}, {}), [], id="no likes"),
        pytest.param(counted({1: 5, 2: 3, 3: 0}), [], id="none and not named are the same"),
        pytest.param(counted(store={1: 6, 2: 3}), [1], id="the store is ahead"),
        pytest.param(counted(counts={1: 5, 2: 2}), [2], id="a running count is behind"),
        pytest.param(counted(ledger={1: 5}), [2], id="the ledger lacks a candidate"),
        pytest.param(counted(identities={1: 4, 2: 3}), [1], id="an identity stands twice"),
        pytest.param(counted(store={1: 3, 2: 5}), [1, 2], id="equal sums, other candidates"),
        pytest.param(counted({1: 1}, {2: 1}, {3: 1}, {4: 1}), [1, 2, 3, 4], id="equal sums, nothing in common"),
        pytest.param(counted(store={1: 5, 2: 3, 70: 1}), [70], id="a like of an unknown candidate"),
    ],
)
def test_where_the_four_differ(found: Recount, differing: list[int]) -> None:
    lines = found.differences().splitlines()
    assert [int(line.removeprefix("candidate ").partition(":")[0]) for line in lines] == differing
    assert found.equal is (not differing)


def test_a_difference_names_all_four_counts() -> None:
    assert counted({1: 7, 2: 3}, ledger={2: 3}).differences() == (
        "candidate 1: store 7, counts 5, ledger 0, identities 5"
    )


def test_totals_are_the_sums_by_name() -> None:
    found = counted({1: 1}, {1: 1, 2: 1}, {1: 3}, {2: 4})
    assert found.totals == {"store": 1, "counts": 2, "ledger": 3, "identities": 4}
