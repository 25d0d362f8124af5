"""Settings and limits: each is explained, and those that depend on one another agree."""

import re

import pytest
from pydantic import ValidationError

from dianzan.domain import limits
from dianzan.domain.voters import CampaignKey, Voter, VoterClass
from dianzan.process import metrics
from dianzan.process.settings import Settings
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
