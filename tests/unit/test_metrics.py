"""A campaign's series: born at 0 where an alert looks at their growth, gone with the campaign where one would go on."""

from __future__ import annotations

import re
from pathlib import Path

import prometheus_client
import pytest
import yaml
from prometheus_client import Counter, Gauge, generate_latest

from dianzan.process import metrics
from vote_api.likes import path as _counts_refusals  # noqa: F401 its series begin when it is imported

ALERTS = Path(__file__).parents[2] / "deploy" / "alerts.yml"
# What goes on to be true of a campaign that is over; each is a number to look at, of its last day.
OF_EVERY_CAMPAIGN = {"dianzan_campaign_version", "dianzan_campaign_open", "dianzan_published_likes"}
SEALED_ONLY = {"dianzan_seal_differences"}
# Born with what happens, since its kinds are names of errors; its alert asks for more than three in two minutes.
BORN_LATER = {"dianzan_flush_errors_total"}


def by_campaign(kind: type[Counter | Gauge]) -> dict[str, Counter | Gauge]:
    found = [each for each in vars(metrics).values() if isinstance(each, kind) and "campaign" in each._labelnames]
    return {next(iter(each.describe())).name: each for each in found}


def test_every_gauge_of_a_campaign_goes_when_it_is_over() -> None:
    going = {next(iter(gauge.describe())).name for gauge in metrics.OF_A_RUNNING_CAMPAIGN}

    assert going == by_campaign(Gauge).keys() - OF_EVERY_CAMPAIGN - SEALED_ONLY


def test_what_is_forgotten_is_exported_no_more_and_other_campaigns_stay() -> None:
    for campaign in ("over", "goes_on"):
        metrics.BACKLOG.labels(campaign).set(3)
        for direction in ("behind", "ahead", "foreign"):
            metrics.DRIFT.labels(campaign, direction).set(5)

    metrics.forget("over")
    metrics.forget("over")

    exported = generate_latest().decode()
    assert 'campaign="over"' not in exported
    assert len(re.findall(r'^dianzan_drift_likes\{campaign="goes_on"', exported, re.MULTILINE)) == 3
    metrics.forget("goes_on")


def test_every_counter_whose_growth_is_watched_is_born_at_0() -> None:
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    grown = {name for rule in rules for name in re.findall(r"increase\((\w+)\{", rule["expr"])} - BORN_LATER
    assert grown

    metrics.begin("new")

    exported = generate_latest().decode()
    for name in grown:
        assert re.search(rf'^{name}\{{campaign="new"\}} 0\.0$', exported, re.MULTILINE), name


@pytest.mark.parametrize("code", ["store_full", "overloaded", "store_unsafe", "clock_skewed"])
def test_a_refusal_is_counted_from_0_on(code: str) -> None:
    assert prometheus_client.REGISTRY.get_sample_value("dianzan_like_requests_total", {"code": code}) is not None
