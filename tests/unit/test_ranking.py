"""Ranks: equal counts share one, and as many are skipped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dianzan.domain.ranking import ranked


@pytest.mark.parametrize(
    ("likes", "ranks"),
    [
        pytest.param([], [], id="nobody"),
        pytest.param([0], [1], id="one without likes"),
        pytest.param([0, 0, 0], [1, 1, 1], id="nobody has likes"),
        pytest.param([5, 3, 9], [2, 3, 1], id="all differ"),
        pytest.param([7, 7, 3], [1, 1, 3], id="two lead"),
        pytest.param([9, 7, 7, 3], [1, 2, 2, 4], id="two second"),
        pytest.param([1, 5, 5, 5, 0], [4, 1, 1, 1, 5], id="three lead"),
        pytest.param([10, 9, 100], [2, 3, 1], id="numbers, not texts"),
        pytest.param([2**53, 2**53 + 1], [2, 1], id="beyond a float"),
    ],
)
def test_ranks_of_counts(likes: list[int], ranks: list[int]) -> None:
    assert list(ranked(dict(enumerate(likes, start=1))).values()) == ranks


@given(st.dictionaries(st.integers(1, 5_000), st.integers(0, 9)))
def test_a_rank_is_one_more_than_the_number_of_those_ahead(likes: dict[int, int]) -> None:
    ahead = {c: 1 + sum(other > own for other in likes.values()) for c, own in likes.items()}
    assert ranked(likes) == ahead
