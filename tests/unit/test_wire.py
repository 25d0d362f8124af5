"""The bytes between vote API, store function and worker, and that the store's function reads the same ones."""

import re
import struct
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dianzan.domain import limits, wire
from dianzan.domain.errors import ApiError, EntryUndecodable, StoreError
from dianzan.domain.voters import VOTER_BYTES, Voter, VoterClass
from dianzan.domain.wire import Ballot, Entry, Outcome, Status
from dianzan.store import gates, library, like_link

LUA = (files("dianzan.store") / "functions.lua").read_text(encoding="utf-8")
VOTER = bytes(range(VOTER_BYTES))
BALLOT = wire.pack_ballot(Voter(VOTER, VoterClass.verified, 513), -2, [1, 255], 1)

hashes = st.binary(min_size=VOTER_BYTES, max_size=VOTER_BYTES)
voters = st.builds(Voter, hashes, st.sampled_from(VoterClass), st.integers(0, 32_767))
networks = st.integers(-(2**31), 2**31 - 1)


def indexes(width: int) -> st.SearchStrategy[list[int]]:
    return st.lists(
        st.integers(1, min(256**width - 1, limits.CANDIDATES_MAX)),
        min_size=1,
        max_size=limits.CANDIDATES_PER_BALLOT_MAX,
    )


def ballots(width: int) -> st.SearchStrategy[list[tuple[Voter, int, list[int]]]]:
    return st.lists(st.tuples(voters, networks, indexes(width)), max_size=5)


of_any_width = st.sampled_from([1, 2]).flatmap(lambda width: st.tuples(st.just(width), ballots(width)))


def fields(**changes: bytes | None) -> dict[bytes, bytes]:
    """The fields of a good entry, changed or (None) left out."""
    good: dict[str, bytes | None] = {"v": b"1", "w": b"20780", "t": b"1795449600000", "b": b"batch id", "d": BALLOT}
    return {name.encode(): value for name, value in {**good, **changes}.items() if value is not None}


def test_a_ballot_byte_by_byte() -> None:
    expected = VOTER + bytes([2]) + bytes([2, 1]) + bytes([255, 255, 255, 254]) + bytes([2]) + bytes([1, 255])
    assert expected == BALLOT


@given(of_any_width, st.integers(0, 84_005), st.integers(0, 7_258_118_399_999))
def test_what_is_packed_is_read_back(
    packed: tuple[int, list[tuple[Voter, int, list[int]]]], day: int, time_ms: int
) -> None:
    width, cast = packed
    data = b"".join(wire.pack_ballot(voter, network, liked, width) for voter, network, liked in cast)
    entry = wire.unpack_entry(b"1-0", fields(v=b"%d" % width, w=b"%d" % day, t=b"%d" % time_ms, b=b"12345678", d=data))
    read = [Ballot(v.hash, int(v.voter_class), v.publisher, network, tuple(liked)) for v, network, liked in cast]
    assert entry == Entry(b"1-0", b"12345678", time_ms, day, read)
    assert entry.like_count == sum(len(liked) for _, _, liked in cast)


@given(st.sampled_from([1, 2]).flatmap(lambda width: st.tuples(st.just(width), indexes(width))))
def test_indexes_and_marks_are_read_back(packed: tuple[int, list[int]]) -> None:
    width, liked = packed
    data = wire.pack_indexes(liked, width)
    assert len(data) == width * len(liked)
    assert wire.unpack_indexes(data, width) == tuple(liked)


@pytest.mark.parametrize(
    ("network", "candidates", "width"),
    [
        pytest.param(0, [256], 1, id="index too great for one byte"),
        pytest.param(0, [65_536], 2, id="index too great for two bytes"),
        pytest.param(0, [-1], 1, id="negative index"),
        pytest.param(0, [1] * 256, 1, id="too many candidates"),
        pytest.param(2**31, [1], 1, id="network too great"),
    ],
)
def test_what_does_not_fit_is_not_packed(network: int, candidates: list[int], width: int) -> None:
    with pytest.raises((struct.error, ValueError)):
        wire.pack_ballot(Voter(VOTER, VoterClass.device, 0), network, candidates, width)


# ---- entries that cannot be read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        *[pytest.param({name: None}, id=f"no {name}") for name in "vwtbd"],
        pytest.param({"v": b"0", "d": BALLOT[:-2]}, id="width 0"),
        pytest.param({"v": b"3", "d": BALLOT + bytes(4)}, id="width 3"),
        pytest.param({"v": b"-1"}, id="negative width"),
        pytest.param({"v": b""}, id="empty width"),
        pytest.param({"v": b"x"}, id="a word as width"),
        pytest.param({"v": b"\xff"}, id="no text as width"),
        pytest.param({"v": b"2"}, id="the other width"),
        pytest.param({"w": b"-1"}, id="window before 1970"),
        pytest.param({"w": b"84006"}, id="window in 2200"),
        pytest.param({"w": b"2026-11-23"}, id="window as a date"),
        pytest.param({"t": b"-1"}, id="time before 1970"),
        pytest.param({"t": b"7258118400000"}, id="time in 2200"),
        pytest.param({"t": b"1795449600000000"}, id="time in microseconds"),
        pytest.param({"t": b"9" * 5_000}, id="endless time"),
        pytest.param({"t": b"1.5"}, id="half a millisecond"),
        pytest.param({"d": BALLOT[:-1]}, id="a byte short"),
        pytest.param({"d": BALLOT + b"\0"}, id="a byte long"),
        pytest.param({"d": BALLOT[:23]}, id="a head cut off"),
        pytest.param({"d": BALLOT[:23] + b"\0"}, id="a ballot of no likes"),
        pytest.param({"d": BALLOT + BALLOT[:23] + b"\0"}, id="an empty second ballot"),
    ],
)
def test_an_entry_of_another_shape_is_undecodable(changes: dict[str, bytes | None]) -> None:
    with pytest.raises(EntryUndecodable, match="7-1"):
        wire.unpack_entry(b"7-1", fields(**changes))


def test_the_good_entry_of_the_table_above_is_read() -> None:
    entry = wire.unpack_entry(b"7-1", fields())
    assert entry.ballots == [Ballot(VOTER, 2, 513, -2, (1, 255))]


junk = st.binary(max_size=80)
numbers = st.integers(-10, 10**20).map(lambda number: b"%d" % number)
near_good = st.fixed_dictionaries(
    {},
    optional={
        b"v": st.sampled_from([b"1", b"2"]) | junk,
        b"w": numbers | junk,
        b"t": numbers | junk,
        b"b": junk,
        b"d": junk
        | st.builds(lambda head, n, tail: head + bytes([n]) + tail, st.just(BALLOT[:23]), st.integers(0, 9), junk),
    },
)


@given(
    junk, st.dictionaries(junk, junk, max_size=6) | near_good | near_good.map(lambda changed: {**fields(), **changed})
)
@example(b"\xff", {})
def test_any_bytes_give_an_entry_or_entry_undecodable(entry_id: bytes, found: dict[bytes, bytes]) -> None:
    try:
        entry = wire.unpack_entry(entry_id, found)
    except EntryUndecodable:
        return
    width = int(found[b"v"])
    assert len(found[b"d"]) == sum(24 + width * len(ballot.candidates) for ballot in entry.ballots)
    assert all(ballot.candidates for ballot in entry.ballots)


# ---- the function's reply -------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.text("caq", min_size=1, max_size=9), st.integers(0, 32_767)), max_size=9))
def test_each_ballot_gets_its_own_part_of_the_reply(parts: list[tuple[str, int]]) -> None:
    outcomes = [Outcome(statuses.encode(), remaining) for statuses, remaining in parts]
    reply = b"".join(outcome.statuses + struct.pack(">H", outcome.remaining) for outcome in outcomes)
    sizes = [len(outcome.statuses) for outcome in outcomes]
    assert wire.unpack_outcomes(reply, sizes) == outcomes
    for wrong in (reply + b"\0", reply[:-1] or b"\0"):
        with pytest.raises(StoreError):
            wire.unpack_outcomes(wrong, sizes)


# ---- where a voter's likes are --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "width"),
    [(0, 1), (1, 1), (255, 1), (256, 2), (limits.CANDIDATES_MAX, 2)],
)
def test_the_width_of_an_index(candidates: int, width: int) -> None:
    assert wire.width_of(candidates) == width


def test_shard_bucket_and_field_come_from_different_bytes_of_the_hash() -> None:
    voter = bytes.fromhex("000000ff 00000103 0a0b0c0d0e0f 10111213")
    assert wire.shard_of(voter, 100) == 55
    assert wire.bucket_of(voter, 100) == 59
    assert wire.mark_field(voter) == bytes.fromhex("0a0b0c0d0e0f")


@given(hashes, st.integers(1, limits.SHARDS_MAX), st.integers(1, 10**7))
def test_every_voter_has_a_shard_and_a_bucket(voter: bytes, shards: int, buckets: int) -> None:
    assert 0 <= wire.shard_of(voter, shards) < shards
    assert 0 <= wire.bucket_of(voter, buckets) < buckets


# ---- the Lua side ---------------------------------------------------------------------------------------------------


def lua_number(name: str) -> int:
    found = re.search(rf"^local {name} = (\d+)\b", LUA, re.MULTILINE)
    assert found, name
    return int(found[1])


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("LIBRARY_VERSION", library.VERSION),
        ("HEAD", len(BALLOT) - 2),
        ("LIKES_MAX", limits.LIKES_PER_CALL_MAX),
        ("SKEW_MS_MAX", limits.CLOCK_SKEW_MS_MAX),
    ],
)
def test_a_constant_of_the_function_library_is_pythons(name: str, number: int) -> None:
    assert lua_number(name) == number


def test_the_library_names_its_version_and_itself_as_python_does() -> None:
    assert LUA.startswith(f"#!lua name={library.NAME}\n")
    assert f"version {library.VERSION}." in LUA.splitlines()[1]


def test_status_bytes_are_the_functions() -> None:
    names = re.search(r"^local COUNTED, ALREADY, OVER = '(.)', '(.)', '(.)'$", LUA, re.MULTILINE)
    assert names
    assert [ord(name) for name in names.groups()] == [Status.counted, Status.already_liked, Status.over_quota]


def test_the_gate_is_packed_as_the_function_reads_it() -> None:
    read = re.search(r"struct\.unpack\('>([^']+)', gate\)", LUA)
    assert read
    letters = {"B": "B", "I2": "H", "I4": "I", "I8": "Q"}
    as_python = ">" + "".join(letters[part] for part in re.findall(r"I\d|B", read[1]))
    assert gates._GATE.format == as_python


def test_every_refusal_of_the_function_is_known_and_no_other() -> None:
    like = LUA[LUA.index("local function like_v1") : LUA.index("local function open_v1")]
    words = set(re.findall(r"error_reply\('([A-Z]+) ", like))
    # Malformed ballots are this project's own error and no voter's: they fall through to "unknown".
    assert words - {"MALFORMED"} == set(like_link._REFUSALS) - {"OOM"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("UNGATED the shard has no gate", "store_unsafe"),
        ("SHUT the shard is closed", "closed"),
        ("STALE the shard has rules version 3", "rules_moved"),
        ("SKEWED the store is at 1795449600000", "clock_skewed"),
        ("EARLY not open yet", "not_open"),
        ("LATE closed by the clock", "closed"),
        ("WINDOW has ended", "rules_moved"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "store_full"),
        ("command not allowed when used memory > 'maxmemory'.", "store_full"),
        ("MALFORMED ballots", "store_unavailable"),
        ("Function not found", "store_unavailable"),
        ("", "store_unavailable"),
    ],
)
def test_what_a_refusal_of_the_store_means_to_a_voter(message: str, code: str) -> None:
    refusal: Any = like_link._refusal(message)
    assert isinstance(refusal, ApiError)
    assert refusal.code == code
    assert (refusal.status == 503) == (refusal.retry_after_s is not None)
