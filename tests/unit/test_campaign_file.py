"""A campaign file is read as it was meant, or refused in words that name the line, the field and what to write."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dianzan.domain import strict_yaml
from dianzan.domain.campaign import Rules
from dianzan.domain.campaign_file import parse_rules, read_rules
from dianzan.domain.errors import CampaignError
from dianzan.domain.strict_yaml import YamlRefusedError, read_yaml

CASES = Path(__file__).parents[1] / "cases"
HEAD = "id: a\ntitle: 点赞\nopens: 2026-11-04\ncloses: 2026-11-24\n"


def read(content: str | bytes, folder: Path) -> Rules:
    path = folder / "campaign.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rules(path)


def refusal(content: str | bytes, folder: Path) -> list[str]:
    """What is said of the file, a line a problem."""
    with pytest.raises(CampaignError) as caught:
        read(content, folder)
    return str(caught.value).splitlines()


# ---- what stands in the file is what is read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "field", "value"),
    [
        ("publishers: [bjnews, no, on, y]", "publisher_codes", ("bjnews", "no", "on", "y")),
        ("publishers: [163, no]", "publisher_codes", ("163", "no")),
        ("publishers: [1e3, 0x1f, 07]", "publisher_codes", ("1e3", "0x1f", "07")),
        ("publishers:\n- {code: 163, name: 网易}", "publisher_codes", ("163",)),
        ("likes_per_window: 5", "likes_per_window", 5),
        ('likes_per_window: "5"', "likes_per_window", 5),
        ("likes_per_window: 5  # a day", "likes_per_window", 5),
        ("# a line of its own\nshards: 4", "shards", 4),
    ],
)
def test_a_value_is_the_text_that_stands_there(lines: str, field: str, value: object, tmp_path: Path) -> None:
    assert getattr(read(HEAD + lines + "\n", tmp_path), field) == value


@pytest.mark.parametrize(
    ("title", "read_as"),
    [("2026", "2026"), ("no", "no"), ('"榜样 #2026"', "榜样 #2026"), ("'a: b'", "a: b"), ("榜样#2026", "榜样#2026")],
)
def test_a_title_is_the_text_that_stands_there(title: str, read_as: str, tmp_path: Path) -> None:
    assert read(HEAD.replace("点赞", title), tmp_path).title == read_as


def test_json_is_a_campaign_file_too(tmp_path: Path) -> None:
    written = {"id": "a", "title": "点赞 😀", "opens": "2026-11-04", "closes": "2026-11-24", "publishers": ["163"]}
    assert read(json.dumps(written), tmp_path) == parse_rules(written, "the dictionary")


def test_publishers_named_no_and_on_are_read_as_such() -> None:
    assert read_rules(CASES / "no_publisher.yaml").publisher_codes == ("bjnews", "no", "on")


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("duplicate_key", ["line 4, closes: stands more than once, in lines 4 and 6", "line 5, results: stands"]),
        ("octal", ["line 5, likes_per_window: '010' is not a plain number; write 10"]),
        ("nul_title", ["line 2, title: has the invisible character U+0000"]),
        ("newline_title", ["line 2, title: has a line break"]),
    ],
)
def test_a_file_that_others_reported_is_refused_in_words(case: str, said: list[str]) -> None:
    with pytest.raises(CampaignError) as caught:
        read_rules(CASES / f"{case}.yaml")

    assert [line for line in said if line not in str(caught.value)] == []


# ---- a slip is named by line and field, with what to write -----------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("titel: x", "line 5, titel: there is no such field; did you mean title?"),
        ("likes-per-window: 5", "line 5, 'likes-per-window': there is no such field; did you mean likes_per_window?"),
        ("titel: 榜样 #1", "line 5, titel: there is no such field; did you mean title?"),
        ("zzz: x", "line 5, zzz: there is no such field; known are id, title, opens"),
        (
            "likes_per_window: ten",
            "line 5, likes_per_window: 'ten' is not a plain number; write a whole number from 1 to",
        ),
        ("likes_per_window: 300", "line 5, likes_per_window: 300 is not right; write a whole number from 1 to 255"),
        ("likes_per_window: 1_000", "line 5, likes_per_window: '1_000' is not a plain number; write 1000"),
        ("likes_per_window: １０", "line 5, likes_per_window: '１０' is not a plain number; write 10"),
        ("likes_per_window: true", "line 5, likes_per_window: 'true' is not a plain number"),
        ("shards: 2.5", "line 5, shards: '2.5' is not a plain number; write a whole number from 1 to 256"),
        ("shards: " + "9" * 5_000, "line 5, shards: '9999"),
        ("shards:", "line 5, shards: is empty; write a whole number"),
        ("window: week", "line 5, window: 'week' is not right; write day or campaign"),
        ("results: yes", "line 5, results: 'yes' is not right; write live or hidden"),
        ("voter_classes: device", "line 5, voter_classes: 'device' is not right; write a list, such as [device]"),
        ("publishers: [Bjnews]", "line 5, publishers.0.code: 'Bjnews' is not right; use 1 to 32 of a-z"),
        (
            "publishers:\n- bjnews\n- {code: x, nam: y}",
            "line 7, publishers.1.nam: there is no such field; did you mean name?",
        ),
        ("publishers:\n- {code: x, name: 'a\u202eb'}", "line 6, publishers.0.name: has the invisible character U+202E"),
        ("publishers:\n- code: x\n  name: 网易 #1", "line 7, publishers.0.name: is read as '网易', since # begins"),
        ("timezone: Beijing", "line 5, timezone: 'Beijing' is not a time zone; write one like Asia/Shanghai"),
    ],
)
def test_a_slip_is_named_with_what_to_write(line: str, said: str, tmp_path: Path) -> None:
    problems = refusal(HEAD + line + "\n", tmp_path)

    assert said in "\n".join(problems)
    assert "pattern" not in "\n".join(problems)
    assert "Input should" not in "\n".join(problems)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2026/12/01 24:00", "'2026/12/01 24:00' is not right; write 2026-12-02 00:00"),
        ("2026-12-01 24:00", "'2026-12-01 24:00' is not right; write 2026-12-02 00:00"),
        ("2026-12-1", "write 2026-12-01 00:00"),
        ("2026年12月1日", "write 2026-12-01 00:00"),
        ("2026-11-31", "'2026-11-31' is not right; write a date or a time, such as 2026-12-01"),
        ("soon", "'soon' is not right; write a date or a time"),
        ("", "is empty; write a date or a time"),
    ],
)
def test_a_time_that_is_written_otherwise_is_understood_and_refused(written: str, said: str, tmp_path: Path) -> None:
    [_, problem] = refusal(HEAD.replace("2026-11-24", written), tmp_path)

    assert problem.startswith("  line 4, closes: ")
    assert said in problem


def test_a_missing_field_is_named_with_what_to_write(tmp_path: Path) -> None:
    [_, problem] = refusal(HEAD.replace("opens: 2026-11-04\n", ""), tmp_path)

    assert problem == "  opens: is missing; write a date or a time, such as 2026-12-01 or 2026-12-01 08:00"


def test_every_slip_is_named_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    problems = refusal("id: A\ntitle: 榜样 #2026\nopens: soon\ncloses: 2026-11-24\nshards: 08\ntitel: x\n", tmp_path)

    assert [problem.partition(":")[0].strip() for problem in problems[1:]] == [
        "line 1, id",
        "line 2, title",
        "line 3, opens",
        "line 5, shards",
        "line 6, titel",
    ]
    assert "is read as '榜样', since # begins a comment" in problems[2]


@pytest.mark.parametrize(
    "title",
    ["", '"\\u3164"', '"\\u2800 \\u115f"', '"a\\u200bb"', '"a\\tb"', '"a\\u2028b"', '"a\\x1b[2Jb"', '"\\ud800"'],
)
def test_a_title_that_cannot_be_shown_is_refused(title: str, tmp_path: Path) -> None:
    [_, problem] = refusal(HEAD.replace("点赞", title), tmp_path)

    assert problem.startswith("  line 2, title: ")
    assert "\x1b" not in problem


def test_a_name_of_a_field_cannot_steer_a_terminal(tmp_path: Path) -> None:
    assert "\x1b" not in "\n".join(refusal(HEAD + '"a\\e[2J": x\n', tmp_path))


# ---- what is no campaign file at all --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(HEAD.encode("gbk"), "line 2: is written in another encoding, such as GBK", id="GBK"),
        pytest.param(HEAD.encode("utf-16"), "line 1: is written in another encoding", id="UTF-16"),
        pytest.param("title：榜样\nid：x\n", "holds `name: value` lines", id="colons of full width"),
        pytest.param("id: [a\n", "line 2: ", id="an open bracket"),
        pytest.param("id:\ta\n\ttitle: x", "'\\t'", id="tabs"),
        pytest.param(HEAD + "---\n" + HEAD, "a second document begins", id="two documents"),
        pytest.param("a: &x [1]\nb: *x\n", "line 1: uses & * or !", id="an alias"),
        pytest.param("id: !!python/object:os.system x", "line 1: uses & * or !", id="a tag"),
        pytest.param("? [a]\n: b", "a name stands before each colon", id="a list as a name"),
        pytest.param("a: " + "[" * 9 + "]" * 9, "is nested more than", id="deep"),
        pytest.param("a: \0", "line 1: has the character U+0000", id="a NUL"),
        pytest.param('a: "\\UFFFFFFFF"', "too large", id="beyond Unicode"),
        pytest.param("x" * (strict_yaml.FILE_BYTES_MAX + 1), "bytes, too many", id="long"),
    ],
)
def test_what_is_no_campaign_file_is_refused_by_one_sentence(content: str | bytes, said: str, tmp_path: Path) -> None:
    assert said in "\n".join(refusal(content, tmp_path))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(CampaignError, match="pipe is no file: give the path of one"):
        read_rules(tmp_path / "pipe")


def test_a_folder_or_an_impossible_path_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no\0name"):
        with pytest.raises(CampaignError, match="cannot be read"):
            read_rules(path)


MERGES = "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9 if n else [])}]}}\n" for n in range(60))


@pytest.mark.parametrize(
    "content",
    ["[" * 190_000, "{" * 190_000, "- " * 95_000, "? " * 95_000, MERGES, "x: [" + "a," * 95_000 + "]", "\n" * 190_000],
    ids=["brackets", "braces", "dashes", "questions", "merges", "a long list", "line ends"],
)
def test_a_hostile_file_is_read_or_refused_within_seconds(content: str, tmp_path: Path) -> None:
    began = time.process_time()
    refusal(content, tmp_path)

    assert time.process_time() - began < 10


SIGNS = st.text(st.sampled_from("ab:,-[]{}&*!|>'\"%@`#?~\\ \t\n0x9é中\u2028\x85\ufeff\x1b"), max_size=40)


@given(st.one_of(st.binary(max_size=80), SIGNS.map(str.encode), SIGNS.map(lambda tail: (HEAD + tail).encode())))
@settings(max_examples=400, deadline=None)
@example(b"%YAML " + b"9" * 5_000 + b".1\n---\na: b")
@example(b'"\\U99999999": 1')
@example(b"a: !<")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        found = read_yaml(data)
    except YamlRefusedError:
        return
    with contextlib.suppress(CampaignError):
        parse_rules(found.value, "the file", found)


def test_pydantics_own_words_stay_away_from_every_field() -> None:
    wrong: dict[str, Any] = {name: {"x": "y"} for name in ("title", "window", "results", "timezone", "shards", "opens")}
    with pytest.raises(CampaignError) as caught:
        parse_rules({**wrong, "id": "a", "closes": ["b"], "publishers": "c", "voter_classes": "d"}, "the file")

    assert "Input should" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 10
