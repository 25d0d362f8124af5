"""The system under load: one of our own or a running one; its stores are reached only by the `dianzan` command."""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from loadtests.load.journal import Baseline, Target
from loadtests.system import System, SystemFailed, command, own_environment

ANSWER_S_MAX = 10.0
SERVED_S_MAX = 15.0
REST_S_MAX = 15.0
CANDIDATES = 64  # of the year's list of 2024

Found = TypeVar("Found")


class Recounted(msgspec.Struct):
    """What this test reads of `dianzan recount --json`."""

    likes: dict[str, int]
    waiting: int
    differences: list[str]


def dianzan(data: str | None, *words: str, fails: bool = False) -> str:
    """What a `dianzan` command prints. Raises SystemFailed if it fails, unless it `fails` to say something.

    A data folder that is named comes before store URLs that happen to be set.
    """
    done = command(*words, within=own_environment({"DIANZAN_DATA": data}) if data else os.environ)
    if done.returncode and not (fails and done.stdout):
        raise SystemFailed(f"dianzan {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def get(url: str) -> Any:
    """A JSON document."""
    return httpx.get(url, timeout=ANSWER_S_MAX).raise_for_status().json()


def tokens(target: Target, count: int) -> list[str]:
    """New voters of the campaign."""
    return dianzan(target.data, "token", target.campaign, "--count", str(count)).split()


def recount(target: Target) -> Recounted:
    """Count the campaign four ways, by the command that auditors use."""
    return msgspec.json.decode(dianzan(target.data, "recount", target.campaign, "--json", fails=True), type=Recounted)


def public_record(target: Target) -> Counter[tuple[str, str]]:
    """(candidate, receipt) of every like in the ledger, by `dianzan record`."""
    rows = csv.DictReader(dianzan(target.data, "record", target.campaign).splitlines())
    return Counter((row["candidate"], row["receipt"]) for row in rows)


def published(target: Target) -> tuple[dict[str, int], int]:
    """Likes by candidate and the sum that the results API states."""
    document = get(f"{target.results_url}/v1/campaigns/{target.campaign}/results")
    return {row["code"]: row["likes"] for row in document["results"]}, document["likes"]


def baseline(target: Target) -> Baseline:
    """What the campaign holds before the run. Raises SystemFailed if it does not come to rest."""
    before = until(lambda: recount(target), lambda found: found.waiting == 0, REST_S_MAX)
    wanted = before.likes["counts"]
    by_candidate, total = until(lambda: published(target), lambda found: found[1] == wanted, REST_S_MAX)
    if before.waiting or total != wanted:
        raise SystemFailed(f"Campaign {target.campaign} is not at rest: somebody votes in it, or no tally worker runs.")
    return Baseline(before.likes, public_record(target), by_candidate, total)


def until(look: Callable[[], Found], enough: Callable[[Found], bool], within_s: float) -> Found:
    """Look until it is enough or the time is over; returns what was seen last."""
    deadline = time.monotonic() + within_s
    while not enough(found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def target_of(vote_url: str, results_url: str, campaign: str, data: str | None) -> Target:
    """A running system's campaign, with its rules as the results API shows them."""
    address = f"{results_url.rstrip('/')}/v1/campaigns/{campaign}"
    rules, results = get(address), get(f"{address}/results")
    if results["likes"] is None:
        raise SystemFailed(f"Campaign {campaign} hides its results: choose one whose results are live.")
    codes = tuple(sorted(row["code"] for row in results["results"]))
    return Target(vote_url.rstrip("/"), results_url.rstrip("/"), campaign, data, rules["likes_per_window"], codes)


@contextmanager
def own_system(folder: Path, quota: int, voters: int) -> Iterator[Target]:
    """Start a `dianzan up` with a campaign for the load; stop it in the end."""
    system, data = System(folder / "data"), str(folder / "data")
    try:
        system.start()
        _create_campaign(folder, data, quota, voters)
        _wait_served(system)
        yield target_of(system.vote_url, system.results_url, "load", data)
    finally:
        ended = system.stop()
    if ended != 0:
        raise SystemFailed(f"dianzan up ended with {ended}:\n{system.printed}")


def _create_campaign(folder: Path, data: str, quota: int, voters: int) -> None:
    now = datetime.now(UTC)
    rules = {
        "id": "load",
        "title": "负载测试",
        "opens": (now - timedelta(hours=1)).isoformat(),
        "closes": (now + timedelta(days=1)).isoformat(),
        "likes_per_window": quota,
        "expected_voters": max(voters, 1_000),
    }
    (folder / "campaign.yaml").write_text(json.dumps(rules), encoding="utf-8")  # JSON is YAML
    rows = [f"c{n:02},候选人{n},person,东城区,社区服务" for n in range(1, CANDIDATES + 1)]
    (folder / "candidates.csv").write_text("\n".join(["code,name,kind,district,category", *rows, ""]), encoding="utf-8")
    dianzan(data, "campaign", "create", str(folder / "campaign.yaml"))
    dianzan(data, "campaign", "import-candidates", "load", str(folder / "candidates.csv"))
    dianzan(data, "campaign", "publish", "load")


def _wait_served(system: System) -> None:
    """Both APIs read new campaigns within a second; without a token a known campaign answers 401, not 404."""
    paths = (f"{system.vote_url}/v1/campaigns/load/likes/mine", f"{system.results_url}/v1/campaigns/load/results")
    deadline = time.monotonic() + SERVED_S_MAX
    while any(httpx.get(path, timeout=ANSWER_S_MAX).status_code == httpx.codes.NOT_FOUND for path in paths):
        if time.monotonic() > deadline:
            raise SystemFailed(f"The campaign is not served after {SERVED_S_MAX} s.")
        time.sleep(0.1)
