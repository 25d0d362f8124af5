"""Settings and limits: each is explained, and those that depend on one another agree."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from dianzan.domain import limits
from dianzan.domain.voters import CampaignKey, Voter, VoterClass
from dianzan.process import metrics
from dianzan.process.settings import KNOWN, SettingError, Settings, read_files, unread
from dianzan.roster.candidates import CODE_CHARS_MAX
from dianzan.store.durability import DURABLE_SETTINGS
from results_api.settings import ResultsSettings
from tally_worker.settings import WorkerSettings
from vote_api.settings import VoteSettings

ALL = [Settings, VoteSettings, WorkerSettings, ResultsSettings]


@pytest.mark.parametrize("settings", ALL)
def test_every_setting_has_a_default_and_a_sentence(settings: type[Settings]) -> None:
    for name, found in settings.model_fields.items():
        assert found.description, name
        assert found.description.endswith("."), name
    assert not [name for name, found in settings.model_fields.items() if found.is_required()]


def test_the_environment_names_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIANZAN_REDIS_URL", "redis://store:6379/1")
    monkeypatch.setenv("DIANZAN_FLUSH_EVERY_S", "0.5")
    found = WorkerSettings()
    assert (found.redis_url, found.flush_every_s) == ("redis://store:6379/1", 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_PORT", "65536"),
        ("WORKER_PORT", "-1"),
        ("FLUSH_EVERY_S", "0"),
        ("FLUSH_EVERY_S", "3"),
        ("LOG_LEVEL", "x"),
        ("LOG_LEVEL", "verbose"),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DIANZAN_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        WorkerSettings()


def test_the_greatest_like_request_fits_the_body_limit() -> None:
    token = CampaignKey(bytes(32)).token(Voter(bytes(16), VoterClass.device, 0), 2**32 - 1)
    codes = ", ".join(f'"{"c" * CODE_CHARS_MAX}"' for _ in range(limits.CANDIDATES_PER_BALLOT_MAX))
    assert len(f'{{"candidates": [{codes}], "token": "{token}"}}') < limits.BODY_BYTES_MAX


def test_indexes_and_numbers_fit_their_columns() -> None:
    assert limits.CANDIDATES_MAX < 2**15
    assert limits.PUBLISHERS_MAX < 2**15
    assert limits.LIKES_PER_WINDOW_MAX <= limits.CANDIDATES_PER_BALLOT_MAX < 2**8


@pytest.mark.parametrize(
    ("metric", "limit"),
    [
        (metrics.BATCH_BALLOTS, limits.BALLOTS_PER_BATCH_MAX),
        (metrics.QUEUE_BALLOTS, limits.BALLOTS_QUEUED_MAX),
        (metrics.STREAMS, limits.STREAMS_MAX),
    ],
)
def test_a_metric_that_names_its_limit_names_the_right_one(metric: object, limit: int) -> None:
    said = getattr(metric, "_documentation", "")
    assert limit in map(int, re.findall(r"\d+", said))


def test_the_promise_needs_every_write_on_disk_and_none_thrown_away() -> None:
    assert DURABLE_SETTINGS["appendfsync"] == "always"
    assert DURABLE_SETTINGS["maxmemory-policy"] == "noeviction"


# ---- what a process says of wrong settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ((VoteSettings, "TRUSTED_PROXIES", "10.0.0.5/8"), "10.0.0.5/8 has host bits set; write addresses or networks"),
        ((VoteSettings, "TRUSTED_PROXIES", "proxy.example.cn"), "does not appear to be an IPv4 or IPv6 network"),
        ((VoteSettings, "TRUSTED_PROXIES", "*"), "does not appear to be an IPv4 or IPv6 network"),
        ((VoteSettings, "STORE_FOLDER", "/no/such/folder"), "Path does not point to a directory"),
        ((VoteSettings, "VOTE_PORT", "http"), "unable to parse string as an integer"),
        ((VoteSettings, "ALLOW_WEAK_STORE", "maybe"), "unable to interpret input"),
        ((ResultsSettings, "VOTE_URL", "vote.example.cn"), "write https://HOST or https://HOST:PORT"),
        ((ResultsSettings, "VOTE_URL", "8000"), "write https://HOST or https://HOST:PORT"),
        ((ResultsSettings, "VOTE_URL", " https://vote.example.cn"), "write https://HOST or https://HOST:PORT"),
        ((WorkerSettings, "LOG_LEVEL", "verbose"), "Input should be 'debug', 'info', 'warning' or 'error'"),
        ((WorkerSettings, "STORE_MODE", "cluster"), "Input should be 'one-node' or 'replicated'"),
    ],
)
def test_a_wrong_setting_ends_the_process_in_a_sentence_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: tuple[type[Settings], str, str],
    said: str,
) -> None:
    settings, name, value = wrong
    monkeypatch.setenv(f"DIANZAN_{name}", value)

    with pytest.raises(SystemExit) as ended:
        settings.of_process()

    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith(f"DIANZAN_{name} is {value!r}: ")
    assert said in line


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (VoteSettings, "TRUSTED_PROXIES", "127.0.0.1, 10.1.2.0/24,fd00::/8"),
        (VoteSettings, "TRUSTED_PROXIES", ""),
        (ResultsSettings, "VOTE_URL", ""),
        (ResultsSettings, "VOTE_URL", ":8000"),
        (ResultsSettings, "VOTE_URL", "https://vote.example.cn"),
        (ResultsSettings, "VOTE_URL", "http://[::1]:8000"),
    ],
)
def test_a_right_setting_is_taken(
    monkeypatch: pytest.MonkeyPatch, settings: type[Settings], name: str, value: str
) -> None:
    monkeypatch.setenv(f"DIANZAN_{name}", value)

    assert getattr(settings.of_process(), name.lower()) == value


def test_a_folder_that_is_left_empty_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIANZAN_STORE_FOLDER", "")

    assert VoteSettings.of_process().store_folder is None


def test_a_setting_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://:密码@store:6379/0\n", encoding="utf-8")
    environment = {"DIANZAN_REDIS_URL_FILE": str(tmp_path / "url"), "DIANZAN_HOST": "::1", "LOG_FILE": "x"}

    read_files(environment)

    assert environment == {"DIANZAN_REDIS_URL": "redis://:密码@store:6379/0", "DIANZAN_HOST": "::1", "LOG_FILE": "x"}


@pytest.mark.parametrize(
    ("content", "also", "said"),
    [
        (None, {}, "which cannot be read: [Errno 2]"),
        (b" \n", {}, "which is empty"),
        (b"\xff\xfe", {}, "which cannot be read: 'utf-8' codec"),
        (b"redis://a/0", {"DIANZAN_REDIS_URL": "redis://b/0"}, "are both set: keep one"),
    ],
)
def test_a_setting_whose_file_is_of_no_use_ends_in_a_sentence_that_names_it(
    tmp_path: Path, content: bytes | None, also: dict[str, str], said: str
) -> None:
    if content is not None:
        (tmp_path / "url").write_bytes(content)

    with pytest.raises(SettingError) as refused:
        read_files({"DIANZAN_REDIS_URL_FILE": str(tmp_path / "url"), **also})

    assert "DIANZAN_REDIS_URL_FILE" in str(refused.value)
    assert said in str(refused.value)


def test_a_file_for_a_setting_there_is_not_is_named_as_unread() -> None:
    environment = {"DIANZAN_REDIS_URI_FILE": "/run/secrets/redis_url"}

    read_files(environment)

    assert unread(environment) == ["DIANZAN_REDIS_URI_FILE is read by nothing: did you mean DIANZAN_REDIS_URL?"]


def test_a_variable_that_nothing_reads_is_named_with_the_one_that_was_meant() -> None:
    assert unread(["DIANZAN_TRUSTED_PROXY", "DIANZAN_ZEBRA", "DIANZAN_HOST", "PATH"]) == [
        "DIANZAN_TRUSTED_PROXY is read by nothing: did you mean DIANZAN_TRUSTED_PROXIES?",
        "DIANZAN_ZEBRA is read by nothing.",
    ]


def test_every_setting_is_known_to_every_process() -> None:
    fields = {name.upper() for settings in ALL for name in settings.model_fields}

    assert fields | {"DATA", "RESULTS_ROLE"} == KNOWN
