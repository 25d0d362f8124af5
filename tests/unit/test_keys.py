"""Every key in the store is known by its shape, and nothing else is."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dianzan.domain.campaign import CAMPAIGN_ID
from dianzan.domain.shard import Shard
from dianzan.store import keys

campaigns = st.from_regex(rf"\A{CAMPAIGN_ID}\Z")
counts = st.integers(0, 10**6)
shards = st.builds(Shard, campaigns, counts)

# One builder a line, with its kind.
built = st.one_of(
    st.tuples(st.just(keys.CAMPAIGNS), st.just("campaigns")),
    st.tuples(st.builds(keys.document, campaigns), st.just("document")),
    st.tuples(
        st.builds(keys.tokens_minted, campaigns, st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32)),
        st.just("tokens_minted"),
    ),
    st.tuples(st.builds(keys.gate, shards), st.just("gate")),
    st.tuples(st.builds(keys.counts, shards), st.just("counts")),
    st.tuples(st.builds(keys.stream, shards), st.just("stream")),
    st.tuples(st.builds(keys.kept, shards), st.just("kept")),
    st.tuples(st.builds(keys.agreed, shards), st.just("agreed")),
    st.tuples(st.builds(keys.touch, st.builds(keys.gate, shards)), st.just("touch")),
    st.tuples(st.builds(keys.touch, st.builds(keys.document, campaigns)), st.just("touch")),
    st.tuples(st.builds(keys.marks, shards, counts, counts), st.just("marks")),
    st.tuples(st.builds(keys.people, shards, counts), st.just("people")),
)


@given(built)
def test_every_key_built_here_is_recognised(key_and_kind: tuple[str, str]) -> None:
    key, kind = key_and_kind
    assert keys.parse(key) == kind


@given(built, st.integers(0, 60), st.characters())
def test_a_key_with_one_character_more_is_not_taken_for_another_kind(
    key_and_kind: tuple[str, str], at: int, character: str
) -> None:
    key, kind = key_and_kind
    changed = key[:at] + character + key[at:]
    assert keys.parse(changed) in (None, kind)
    assert keys.parse(changed) is None or changed.isascii()


@given(built, st.text(st.characters(exclude_characters="0123456789"), min_size=1, max_size=5))
def test_nothing_may_stand_around_a_key(key_and_kind: tuple[str, str], more: str) -> None:
    key, kind = key_and_kind
    assert keys.parse(more + key) is None
    # A document's key ends in the campaign's id, which may go on.
    assume(kind != "document" or not re.fullmatch(r"[a-z-]+", more))
    assert keys.parse(key + more) is None


@given(st.text(max_size=40))
def test_any_other_text_is_no_key(text: str) -> None:
    assume(text != keys.CAMPAIGNS)
    assert keys.parse(text) is None


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("dianzan:campaigns", "campaigns"),
        ("dianzan:campaigns\n", None),
        ("dianzan:campaigns2", None),
        ("dianzan:campaign:", None),
        ("dianzan:campaign:a", "document"),
        ("dianzan:campaign:A", None),
        ("dianzan:campaign:-a", None),
        ("dianzan:campaign:a_b", None),
        ("dianzan:campaign:" + "a" * 32, "document"),
        ("dianzan:campaign:" + "a" * 33, None),
        ("dianzan:minted:a:-5:7", "tokens_minted"),
        ("dianzan:minted:a:5", None),
        ("dianzan:minted:a:5:-7", None),
        ("{a:0}:gate", "gate"),
        ("{a:}:gate", None),
        ("{a:x}:gate", None),
        ("{a:-1}:gate", None),
        ("{a:٣}:gate", None),
        ("a:0:gate", None),
        ("{a:0}:gates", None),
        ("{a:0}:counts", "counts"),
        ("{a:0}:stream", "stream"),
        ("{a:0}:m:20780:3", "marks"),
        ("{a:0}:m:20780:", None),
        ("{a:0}:m:20780", None),
        ("{a:0}:p:0", "people"),
        ("{a:0}:p:", None),
        ("{a:0}:touch", "touch"),
        ("{dianzan:campaigns}:touch", "touch"),
        ("{dianzan:campaign:a}:touch", "touch"),
        ("{a}:touch", None),
        ("{a:0}:touched", None),
        ("", None),
    ],
)
def test_the_kind_of_a_key(key: str, kind: str | None) -> None:
    assert keys.parse(key) == kind


@given(shards, shards)
def test_all_keys_of_a_shard_share_one_hash_tag_and_no_other_shard_has_it(shard: Shard, other: Shard) -> None:
    built_keys = [
        keys.gate(shard),
        keys.counts(shard),
        keys.stream(shard),
        keys.marks_prefix(shard, 1),
        keys.marks(shard, 1, 2),
        keys.people(shard, 3),
    ]
    # What a cluster hashes: the text between the first { and the first } after it.
    tags = {key[key.index("{") + 1 : key.index("}")] for key in built_keys}
    assert len(tags) == 1
    assert len(set(built_keys)) == len(built_keys)
    assert (keys.tag(shard) == keys.tag(other)) is (shard == other)


def test_marks_are_their_prefix_and_the_bucket_as_the_server_function_builds_them() -> None:
    assert keys.marks(Shard("a", 1), 20_780, 7) == keys.marks_prefix(Shard("a", 1), 20_780) + "7"
