"""Tokens that cannot be altered, receipts that a retry gets again, and network tags that are no addresses."""

import base64
import re
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dianzan.domain.errors import TokenExpired, TokenInvalid, TokenRevoked
from dianzan.domain.limits import CANDIDATES_MAX
from dianzan.domain.voters import KEY_BYTES, VOTER_BYTES, CampaignKey, Revocation, Voter, VoterClass, new_key

KEY = CampaignKey(bytes(range(KEY_BYTES)))
OTHER_KEY = CampaignKey(bytes(range(1, KEY_BYTES + 1)))
NOW_S = 1_800_000_000
ALPHABET = string.ascii_letters + string.digits + "-_"
UINT32_MAX = 2**32 - 1

hashes = st.binary(min_size=VOTER_BYTES, max_size=VOTER_BYTES)
voters = st.builds(Voter, hashes, st.sampled_from(VoterClass), st.integers(0, 65_535))
tokens = st.builds(KEY.token, voters, st.just(UINT32_MAX))
likes = st.tuples(st.integers(0, 84_005), st.integers(1, 65_535), hashes)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@given(voters, st.integers(0, UINT32_MAX))
def test_a_token_gives_back_its_voter(voter: Voter, made_s: int) -> None:
    token = KEY.token(voter, made_s)
    assert KEY.read_token(token, NOW_S) == voter
    assert re.fullmatch(r"[A-Za-z0-9_-]{48}", token)


@given(tokens, st.integers(0, 47), st.characters())
@example(KEY.token(Voter(b"\xff" * 16, VoterClass.device, 0), UINT32_MAX), 12, "/")
def test_no_character_of_a_token_can_be_changed(token: str, at: int, character: str) -> None:
    if character == token[at]:
        return
    with pytest.raises(TokenInvalid):
        KEY.read_token(token[:at] + character + token[at + 1 :], NOW_S)


def test_no_character_of_a_token_can_be_changed_to_any_other_of_its_alphabet() -> None:
    token = KEY.token(Voter(bytes(range(0xE0, 0xF0)), VoterClass.verified, 7), UINT32_MAX)
    for at in range(len(token)):
        for character in set(ALPHABET + "+/=") - {token[at]}:
            with pytest.raises(TokenInvalid):
                KEY.read_token(token[:at] + character + token[at + 1 :], NOW_S)


@given(st.text(max_size=60) | st.text(ALPHABET + "+/=", min_size=46, max_size=50))
@example("")
@example("=" * 48)
@example("A" * 47 + "=")
@example("A" * 48)
@example("A" * 48 + "\n")
@example("\ud800" * 48)
@example("é" * 48)
def test_any_text_is_refused_as_a_token(text: str) -> None:
    with pytest.raises(TokenInvalid):
        KEY.read_token(text, NOW_S)


@given(tokens, st.text(max_size=3), st.text(max_size=3))
def test_a_token_with_anything_around_it_is_refused(token: str, before: str, after: str) -> None:
    if before or after:
        with pytest.raises(TokenInvalid):
            KEY.read_token(before + token + after, NOW_S)


@given(voters)
def test_a_token_of_another_campaign_is_refused(voter: Voter) -> None:
    with pytest.raises(TokenInvalid):
        OTHER_KEY.read_token(KEY.token(voter, UINT32_MAX), NOW_S)


@pytest.mark.parametrize(
    ("age_s", "valid"), [(-1e9, True), (0, True), (59.999, True), (60, False), (60.001, False), (1e9, False)]
)
def test_a_token_ends_at_the_second_in_which_its_life_does(age_s: float, valid: bool) -> None:
    voter = Voter(bytes(VOTER_BYTES), VoterClass.device, 0)
    token = KEY.token(voter, NOW_S)
    if valid:
        assert KEY.read_token(token, NOW_S + age_s, life_s=60) == voter
    else:
        with pytest.raises(TokenExpired):
            KEY.read_token(token, NOW_S + age_s, life_s=60)
    assert KEY.read_token(token, NOW_S + age_s) == voter, "to be renewed it may be of any age"


def test_a_token_of_before_ends_at_the_second_that_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    voter = Voter(bytes(VOTER_BYTES), VoterClass.device, 3)
    monkeypatch.setattr("dianzan.domain.voters._TOKEN_VERSION", 1)
    token = KEY.token(voter, NOW_S)
    monkeypatch.undo()

    assert KEY.read_token(token, NOW_S - 0.001, life_s=60) == voter
    with pytest.raises(TokenExpired):
        KEY.read_token(token, NOW_S, life_s=60)
    assert KEY.read_token(token, NOW_S) == voter


def test_a_token_of_another_version_is_invalid_though_its_seal_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dianzan.domain.voters._TOKEN_VERSION", 3)
    token = KEY.token(Voter(bytes(VOTER_BYTES), VoterClass.device, 0), UINT32_MAX)
    monkeypatch.undo()
    with pytest.raises(TokenInvalid):
        KEY.read_token(token, NOW_S)


DEVICE, VERIFIED = VoterClass.device, VoterClass.verified


@pytest.mark.parametrize(
    ("revocation", "covered"),
    [
        (Revocation(1, DEVICE), {"young", "old", "before"}),
        (Revocation(1, VERIFIED), {"known"}),
        (Revocation(1, publisher=3), {"old"}),
        (Revocation(1, DEVICE, 3), {"old"}),
        (Revocation(1, VERIFIED, 3), set()),
        (Revocation(1, made_from_s=NOW_S), {"young", "known"}),
        (Revocation(1, made_until_s=NOW_S), {"old", "before"}),
        (Revocation(1, made_from_s=NOW_S - 60, made_until_s=NOW_S), {"old"}),
        (Revocation(1, DEVICE, 0, NOW_S, NOW_S + 1), {"young"}),
    ],
)
def test_a_revocation_covers_the_tokens_of_which_all_it_says_holds(
    monkeypatch: pytest.MonkeyPatch, revocation: Revocation, covered: set[str]
) -> None:
    voter = bytes(VOTER_BYTES)
    tokens = {
        "young": KEY.token(Voter(voter, DEVICE, 0), NOW_S),
        "known": KEY.token(Voter(voter, VERIFIED, 0), NOW_S),
        "old": KEY.token(Voter(voter, DEVICE, 3), NOW_S - 60),
    }
    monkeypatch.setattr("dianzan.domain.voters._TOKEN_VERSION", 1)
    tokens["before"] = KEY.token(Voter(voter, DEVICE, 0), UINT32_MAX)
    monkeypatch.undo()

    def is_refused(token: str) -> bool:
        try:
            KEY.read_token(token, NOW_S, 600, [Revocation(9, publisher=9), revocation])
        except TokenRevoked:
            return True
        return False

    assert {name for name, token in tokens.items() if is_refused(token)} == covered


def test_a_token_shows_neither_subject_nor_key() -> None:
    voter = KEY.voter_hash("phone", b"13800000000")
    raw = base64.urlsafe_b64decode(KEY.token(Voter(voter, VoterClass.device, 0), UINT32_MAX))
    assert b"13800000000" not in raw
    assert len(voter) == VOTER_BYTES


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20), st.binary(max_size=20))
@example("a", b"bc", "ab", b"c")
@example("é", b"", "Ã", b"\xa9")
def test_two_people_never_share_a_voter_hash(issuer: str, subject: bytes, other: str, other_subject: bytes) -> None:
    same = (issuer, subject) == (other, other_subject)
    assert (KEY.voter_hash(issuer, subject) == KEY.voter_hash(other, other_subject)) is same
    assert KEY.voter_hash(issuer, subject) != OTHER_KEY.voter_hash(issuer, subject)


@given(likes, likes)
def test_a_receipt_is_the_same_every_time_and_of_one_like_only(
    like: tuple[int, int, bytes], other: tuple[int, int, bytes]
) -> None:
    again = CampaignKey(bytes(range(KEY_BYTES)))
    assert KEY.receipt(*like) == again.receipt(*like)
    assert (KEY.receipt(*like) == KEY.receipt(*other)) is (like == other)


@given(likes, st.integers(1, 84_005), st.integers(1, 65_534), st.integers(0, 127))
def test_a_receipt_differs_by_window_candidate_voter_and_key(
    like: tuple[int, int, bytes], days: int, step: int, bit: int
) -> None:
    window, candidate, voter = like
    flipped = (int.from_bytes(voter, "big") ^ 1 << bit).to_bytes(VOTER_BYTES, "big")
    others = {
        KEY.receipt((window + days) % 84_006, candidate, voter),
        KEY.receipt(window, (candidate - 1 + step) % 65_535 + 1, voter),
        KEY.receipt(window, candidate, flipped),
        OTHER_KEY.receipt(window, candidate, voter),
    }
    assert len(others | {KEY.receipt(*like)}) == 5


def test_the_candidates_of_one_voter_all_have_receipts_of_their_own() -> None:
    assert len({KEY.receipt(20_780, candidate, bytes(16)) for candidate in range(CANDIDATES_MAX)}) == CANDIDATES_MAX


@given(likes)
def test_a_receipt_is_16_characters_nobody_confuses(like: tuple[int, int, bytes]) -> None:
    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{16}", KEY.receipt(*like))


def test_a_receipt_printed_once_stays_the_receipt() -> None:
    assert KEY.receipt(20_780, 1, bytes(range(VOTER_BYTES))) == "DB981N1AWK6CPM38"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("192.0.2.1", "::ffff:192.0.2.77", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.3.1", False),
        ("2001:db8:1::1", "2001:db8:1:ffff::9", True),
        ("2001:db8:1::1", "2001:0DB8:0001:0:0:0:0:2", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("fe80::1%eth0", "fe80::1%wlan0", True),
        ("0.0.0.0", "::", False),
    ],
)
def test_neighbours_share_a_network_tag(one: str, other: str, same: bool) -> None:
    assert (KEY.network_tag(one) == KEY.network_tag(other)) is same


@pytest.mark.parametrize(
    "junk", ["", "testclient", "unix:", "192.0.2", "192.0.2.1:80", "1.2.3.4, 5.6.7.8", "%", "٣.1.1.1"]
)
def test_what_is_no_address_has_no_network(junk: str) -> None:
    assert KEY.network_tag(junk) == 0


@given(addresses)
def test_a_network_tag_fits_the_ledgers_column_and_is_keyed(address: str) -> None:
    assert -(2**31) <= KEY.network_tag(address) < 2**31
    assert KEY.network_tag(address) != OTHER_KEY.network_tag(address)


@given(st.text(max_size=50))
def test_any_text_has_a_network_tag(text: str) -> None:
    assert isinstance(KEY.network_tag(text), int)


@pytest.mark.parametrize("size", [0, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=str(KEY_BYTES)):
        CampaignKey(bytes(size))


def test_every_campaign_gets_a_key_of_its_own() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert len(new_key()) == KEY_BYTES
