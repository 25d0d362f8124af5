"""What operators watch: a real Prometheus on the shipped configuration; every panel and alert must find data."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
import yaml

from dianzan.domain.errors import ResultsUnavailable, Unavailable
from dianzan.local.stores import StoreAddresses
from dianzan.process import metrics
from tests.conftest import NewCampaign
from tests.support.client import CampaignClient
from tests.support.service import Service, running
from tests.support.stream import streamed
from tests.support.system import System, free_port
from tests.support.wait import until

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in RULES for rule in group["rules"]}

THRESHOLD = re.compile(r"\s*(==|!=|>=|<=|>|<)\s*[\d.]+$")
# Metrics that exist without our doing.
OF_EVERY_PROCESS = re.compile(r"up|process_\w+|python_\w+|probe_success")
# What compares with an hour ago has nothing to compare with here; alerts_test.yml shows it.
NEEDS_AN_HOUR = "alert LikesStopped"
# What never holds while all is well; the others depend on how busy the machine of the tests is.
QUIET_WHEN_WELL = (
    "StoreUnsafe",
    "DoorDown",
    "LikesStopped",
    "BacklogLarge",
    "CampaignVersionsDiffer",
    "EntriesUndecodable",
    "WorkerStalled",
    "StoreBehind",
    "LedgerBehind",
    "LedgerPutBack",
    "ForeignLikes",
    "SealBroken",
    "ShardsRepaired",
    "NotReconciled",
    "InstanceDown",
)

BLACKBOX = "prometheus-blackbox-exporter"
needs_prometheus = pytest.mark.skipif(
    not all(map(shutil.which, ("prometheus", "promtool", "amtool", BLACKBOX))),
    reason="apt install prometheus prometheus-alertmanager prometheus-blackbox-exporter",
)


def panels() -> list[Any]:
    """Every panel that shows something, with its dashboard's name."""
    return [
        pytest.param(panel, id=f"{path.stem}: {panel['title']}")
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        if panel["type"] != "row"
    ]


def expressions() -> dict[str, str]:
    """Every expression of every panel and alert by a name for people; alerts without their threshold."""
    shown = {
        f"{panel.id} {target['refId']}": target["expr"] for panel in panels() for target in panel.values[0]["targets"]
    }
    return shown | {f"alert {name}": THRESHOLD.sub("", rule["expr"]) for name, rule in ALERTS.items()}


def exported() -> dict[str, set[str]]:
    """The names each metric of metrics.py is exported under."""
    found: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, prometheus_client.Counter | prometheus_client.Gauge | prometheus_client.Histogram):
            family = next(iter(metric.describe()))
            suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[family.type]
            found[family.name] = {family.name + suffix for suffix in suffixes}
    return found


def named(expression: str) -> set[str]:
    """The metrics an expression reads."""
    words = re.findall(r"[a-z_][a-z0-9_]*(?=\{)", expression)
    return set(words) | set(re.findall(r"dianzan_\w+", expression))


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus that scrapes the shared system every second."""

    url: str
    http: httpx.AsyncClient

    async def values(self, expression: str) -> list[float]:
        """What an instant query finds, without NaN; Grafana's variables stand for everything."""
        for variable, meaning in {"$__rate_interval": "15s", "$campaign": ".*", "$instance": ".*"}.items():
            expression = expression.replace(variable, meaning)
        answer = (await self.http.get(f"{self.url}/api/v1/query", params={"query": expression})).json()
        assert answer["status"] == "success", answer
        found = [float(sample["value"][1]) for sample in answer["data"]["result"]]
        return [value for value in found if not math.isnan(value)]


def configured(system: System, blackbox: str, folder: Path) -> Path:
    """The shipped configuration with the addresses of this system and a scrape every second."""
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    target_of = {
        "vote_api": f"127.0.0.1:{system.vote_port}",
        "tally_worker": f"127.0.0.1:{system.worker_port}",
        "results_api": f"127.0.0.1:{system.results_port}",
        "door": f"{system.results_url}/",
    }
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [target_of[job["job_name"]]]}]
        for relabel in job.get("relabel_configs", []):
            if relabel["target_label"] == "__address__":
                relabel["replacement"] = blackbox
    shutil.copy(DEPLOY / "alerts.yml", folder / "alerts.yml")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def prometheus(
    system: System, http: httpx.AsyncClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Debian's Prometheus and blackbox exporter, as processes of their own."""
    folder = tmp_path_factory.mktemp("prometheus")
    address, blackbox = (f"127.0.0.1:{free_port()}" for _ in range(2))
    config = configured(system, blackbox, folder)
    lines = {
        "prometheus": [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"],
        BLACKBOX: [f"--config.file={DEPLOY / 'blackbox.yml'}"],
    }
    with (folder / "log").open("wb") as log:
        processes = [
            subprocess.Popen([name, *words, f"--web.listen-address={own}"], stdout=log, stderr=subprocess.STDOUT)
            for (name, words), own in zip(lines.items(), (address, blackbox), strict=True)
        ]
    yield Prometheus(f"http://{address}", http)
    for process in processes:
        assert process.poll() is None, (folder / "log").read_text()
        process.terminate()
        process.wait(20)


async def vote_and_read(campaign: CampaignClient) -> None:
    """What the public does all day: likes, the same likes again, a token that is none, and reading."""
    while True:
        voter = await campaign.voter()
        await voter.statuses("c01", "c02")
        await voter.statuses("c01")
        await campaign.with_token("none").ask("c01")
        await campaign.results()
        await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
async def watched(prometheus: Prometheus, lasting_campaign: NewCampaign) -> AsyncIterator[Prometheus]:
    """Prometheus while the public votes, reads and watches."""
    campaign = await lasting_campaign()
    async with streamed(campaign):
        public = asyncio.create_task(vote_and_read(campaign))

        async def scraped() -> bool:
            try:
                return len(await prometheus.values("up == 1")) == len(await prometheus.values("up")) == 4
            except httpx.TransportError:
                return False

        await until(scraped, within_s=20, what="Prometheus reaches the three services and the door")
        yield prometheus
        assert not public.done(), public.exception()
        public.cancel()


@needs_prometheus
@pytest.mark.parametrize("name", [name for name in expressions() if name != NEEDS_AN_HOUR])
async def test_every_expression_finds_data_on_a_running_system(watched: Prometheus, name: str) -> None:
    async def data() -> list[float]:
        return await watched.values(expressions()[name])

    await until(data, within_s=20, what=expressions()[name])


@needs_prometheus
@pytest.mark.parametrize("status", ["counted", "already_liked"])
async def test_likes_per_second_are_those_cast(watched: Prometheus, status: str) -> None:
    async def rising() -> bool:
        rates = await watched.values(f'sum(rate(dianzan_likes_total{{job="vote_api", status="{status}"}}[15s]))')
        return bool(rates) and rates[0] > 0

    await until(rising, within_s=20, what=f"likes {status} per second above 0")


@needs_prometheus
async def test_a_reader_of_the_stream_is_seen(watched: Prometheus) -> None:
    async def seen() -> bool:
        return await watched.values('max(dianzan_streams{job="results_api"})') >= [1]

    await until(seen, within_s=20, what="an open stream")


@needs_prometheus
@pytest.mark.parametrize("name", QUIET_WHEN_WELL)
async def test_a_well_system_is_quiet(watched: Prometheus, name: str) -> None:
    async def quiet() -> bool:
        return await watched.values(ALERTS[name]["expr"]) == []

    await until(quiet, within_s=5, what=f"{name} does not hold")


@needs_prometheus
@pytest.mark.parametrize(
    "check", ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts_test.yml"]
)
def test_promtool_accepts(check: str) -> None:
    done = subprocess.run(["promtool", *check.split()], cwd=DEPLOY, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_alertmanager_accepts_its_example() -> None:
    words = ["amtool", "check-config", "alertmanager.yml"]
    done = subprocess.run(words, cwd=DEPLOY, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_shown_firing() -> None:
    tested = (DEPLOY / "alerts_test.yml").read_text()

    assert {name for name in ALERTS if f'alertname="{name}"' not in tested} == set()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_threshold_and_says_what_to_do(name: str) -> None:
    rule = ALERTS[name]

    assert THRESHOLD.search(rule["expr"])
    assert rule["labels"]["severity"] in ("page", "ticket") or name == "Watchdog"
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["action"]) > 40


def test_every_metric_is_watched_and_nothing_else_is() -> None:
    used = {name for expression in expressions().values() for name in named(expression)}
    names = exported()

    assert {metric for metric, forms in names.items() if not forms & used} == set()
    assert {name for name in used - set().union(*names.values()) if not OF_EVERY_PROCESS.fullmatch(name)} == set()


def test_the_503_codes_are_the_vote_apis_own() -> None:
    refusals: list[type[Unavailable]] = [Unavailable, *Unavailable.__subclasses__()]
    codes = {error.code for error in refusals} - {ResultsUnavailable.code}
    listed = [re.search(r'code=~"([^"]+)"', expression) for expression in expressions().values()]
    found = [set(match[1].split("|")) for match in listed if match]

    assert found
    assert all(each == codes for each in found)


@pytest.mark.parametrize("panel", panels())
def test_a_panel_says_its_unit_and_what_to_do(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"]) > 40
    assert panel["targets"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: str(path.stem))
def test_a_dashboard_is_whole(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    boxes = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [(x, y) for b in boxes for x in range(b["x"], b["x"] + b["w"]) for y in range(b["y"], b["y"] + b["h"])]
    ids = [panel["id"] for panel in dashboard["panels"]]
    asked = {t["datasource"]["uid"] for p in dashboard["panels"] for t in p.get("targets", [])}

    assert dashboard["schemaVersion"] >= 41
    assert len(ids) == len(set(ids))
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _y in cells) < 24
    assert asked == {source["uid"] for source in sources}


# ---- what a process says while its stores are away ------------------------------------------------------------------

NOWHERE = StoreAddresses("redis://127.0.0.1:1/0", "postgresql://127.0.0.1:1/dianzan")


async def metric(http: httpx.AsyncClient, service: Service, name: str) -> float:
    """A metric without labels of one process."""
    text = (await http.get(f"{service.url}/metrics")).text
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} ")))


@pytest.mark.parametrize("name", ["dianzan_round_timestamp_seconds", "dianzan_reconciled_timestamp_seconds"])
async def test_a_worker_without_a_round_counts_from_its_start(
    http: httpx.AsyncClient, tmp_path: Path, name: str
) -> None:
    async with running("tally_worker", NOWHERE, tmp_path) as worker:
        assert 0 <= time.time() - await metric(http, worker, name) < 60


async def test_a_store_that_goes_on_being_away_is_one_line(http: httpx.AsyncClient, tmp_path: Path) -> None:
    async with running("results_api", NOWHERE, tmp_path) as results_api:

        async def tried_often() -> bool:
            return await metric(http, results_api, "dianzan_snapshot_seconds_count") > 5

        await until(tried_often)
        assert results_api.log.read_text().count("the last counts go on being served") == 1


def test_a_vote_api_that_starts_well_warns_of_nothing(system: System) -> None:
    log = (system.data / "logs" / "vote_api.log").read_text()

    assert "the store keeps the promise" in log
    assert '"reasons": []' not in log
