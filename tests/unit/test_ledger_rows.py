"""The bytes of a binary COPY are the likes of the entries, each once, sorted by voter."""

import struct
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from dianzan.domain.voters import VOTER_BYTES
from dianzan.domain.wire import Ballot, Entry
from dianzan.ledger.rows import COLUMNS, Rows, pack

CAMPAIGN = 300
DAYS_TO_2000 = 10_957
A, B = bytes(VOTER_BYTES), bytes([255]) * VOTER_BYTES

Row = dict[str, int | bytes]

ballots = st.builds(
    Ballot,
    st.binary(min_size=VOTER_BYTES, max_size=VOTER_BYTES),
    st.integers(0, 255),
    st.integers(0, 32_767),
    st.integers(-(2**31), 2**31 - 1),
    st.lists(st.integers(1, 32_767), min_size=1, max_size=10).map(tuple),
)
entries = st.lists(
    st.builds(
        Entry,
        st.just(b"1-0"),
        st.just(b"12345678"),
        st.integers(0, 7_258_118_399_999),
        st.integers(0, 3),
        st.lists(ballots, max_size=5),
    ),
    max_size=5,
)


def read(copied: bytes) -> list[Row]:
    """The rows of a binary COPY, as Postgres's documentation tells its format."""
    assert copied[:11] == b"PGCOPY\n\xff\r\n\0"
    assert copied[11:19] == bytes(8)
    rows, at = [], 19
    while (fields := struct.unpack_from(">h", copied, at)[0]) != -1:
        at += 2
        row: Row = {}
        for column in COLUMNS[:fields]:
            size = struct.unpack_from(">i", copied, at)[0]
            value = copied[at + 4 : at + 4 + size]
            row[column] = value if column == "voter" else int.from_bytes(value, "big", signed=True)
            at += 4 + size
        rows.append(row)
    assert at + 2 == len(copied)
    return rows


def likes_of(every: list[Entry]) -> Counter[tuple[int | bytes, ...]]:
    return Counter(
        (candidate, b.voter, b.network, b.publisher, b.voter_class, CAMPAIGN, entry.window_day, entry.time_ms)
        for entry in every
        for b in entry.ballots
        for candidate in b.candidates
    )


def _like(row: Row) -> tuple[int | bytes, ...]:
    day, at_us = row["window_day"], row["liked_at"]
    assert isinstance(day, int)
    assert isinstance(at_us, int)
    first = (row[column] for column in COLUMNS[:-2])
    return (*first, day + DAYS_TO_2000, at_us // 1_000 + DAYS_TO_2000 * 86_400_000)


def _key(row: Row) -> tuple[int | bytes, ...]:
    return row["voter"], row["candidate"]


def _counted(rows: Rows) -> tuple[Counter[int], Counter[int]]:
    likes = Counter(int(row["candidate"]) for row in read(rows.copy))
    times = Counter(int(_like(row)[-1]) for row in read(rows.copy))
    return likes, times


@given(entries)
def test_every_like_is_one_row(every: list[Entry]) -> None:
    assert Counter(_like(row) for rows in pack(every, CAMPAIGN) for row in read(rows.copy)) == likes_of(every)


@given(entries)
def test_each_window_has_rows_of_its_own(every: list[Entry]) -> None:
    packed = pack(every, CAMPAIGN)

    days = sorted({entry.window_day for entry in every if entry.ballots})
    assert [rows.partition for rows in packed] == [f"likes_300_1970010{day + 1}" for day in days]
    for day, rows in zip(days, packed, strict=True):
        assert {row["window_day"] for row in read(rows.copy)} == {day - DAYS_TO_2000}


@given(entries)
def test_what_is_counted_is_what_the_rows_are(every: list[Entry]) -> None:
    for rows in pack(every, CAMPAIGN):
        assert (rows.new.likes, rows.new.times) == _counted(rows)
        assert rows.new.count == len(read(rows.copy))


def test_rows_are_in_the_order_of_the_index() -> None:
    first = Entry(b"1-0", b"12345678", 2_000, 1, [Ballot(B, 1, 0, 0, (3, 1, 2))])
    second = Entry(b"2-0", b"12345679", 1_000, 1, [Ballot(A, 1, 0, 9, (300, 7))])

    [rows] = pack([first, second], CAMPAIGN)

    assert [_key(row) for row in read(rows.copy)] == [(A, 7), (A, 300), (B, 1), (B, 2), (B, 3)]
