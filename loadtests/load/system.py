"""The system under load: one of our own by `dianzan up`, or a running one; its stores only by the `dianzan` command."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from loadtests.load.journal import Baseline, Target

STARTED = "dianzan is ready."
START_S_MAX = 120.0
STOP_S_MAX = 60.0
COMMAND_S_MAX = 300.0
ANSWER_S_MAX = 10.0
SERVED_S_MAX = 15.0
REST_S_MAX = 15.0
CANDIDATES = 64  # of the year's list of 2024

Found = TypeVar("Found")

_TOTALS = {
    "counters of the store": "store",
    "counts in Postgres": "counts",
    "rows of the ledger": "ledger",
    "distinct likes in the ledger": "identities",
}
_TOTAL = re.compile(r"\s*([\d,]+)  (.+)")


class TargetError(Exception):
    """The system could not be started, reached or asked; the text says which and shows what it printed."""


@dataclass(frozen=True)
class Recounted:
    """What `dianzan recount` printed."""

    totals: dict[str, int]
    differences: list[str]
    drained: bool


def environment(data: str | None) -> dict[str, str]:
    """Ours for a command; a data folder that is named comes before store URLs that happen to be set."""
    kept = {name: value for name, value in os.environ.items() if not (data and name.startswith("DIANZAN_"))}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200"}


def dianzan(data: str | None, *arguments: str, fails: bool = False) -> str:
    """What a `dianzan` command prints. Raises TargetError where it fails, unless it `fails` to say something."""
    command = [sys.executable, "-m", "dianzan.cli", *arguments, *(("--data", data) if data else ())]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(data), timeout=COMMAND_S_MAX, check=False
    )
    if done.returncode and not (fails and done.stdout):
        raise TargetError(f"dianzan {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def get(url: str) -> Any:
    """A JSON document."""
    with urllib.request.urlopen(url, timeout=ANSWER_S_MAX) as answer:  # noqa: S310 the address is the operator's own
        return json.load(answer)


def tokens(target: Target, count: int) -> list[str]:
    """New voters of the campaign."""
    return dianzan(target.data, "token", target.campaign, "--count", str(count)).split()


def recount(target: Target) -> Recounted:
    """Count the campaign four ways, by the command that auditors use."""
    lines = dianzan(target.data, "recount", target.campaign, fails=True).splitlines()
    found = [matched for line in lines if (matched := _TOTAL.fullmatch(line))]
    totals = {_TOTALS[m[2]]: int(m[1].replace(",", "")) for m in found if m[2] in _TOTALS}
    if totals.keys() != set(_TOTALS.values()):
        raise TargetError("dianzan recount printed no totals:\n" + "\n".join(lines))
    differences = lines[lines.index("DIFFERENT") + 1 :] if "DIFFERENT" in lines else []
    return Recounted(totals, differences, not any("wait for the ledger" in line for line in lines))


def public_record(target: Target) -> Counter[tuple[str, str]]:
    """(candidate, receipt) of every like in the ledger, by `dianzan record`."""
    rows = csv.DictReader(dianzan(target.data, "record", target.campaign).splitlines())
    return Counter((row["candidate"], row["receipt"]) for row in rows)


def published(target: Target) -> tuple[dict[str, int], int]:
    """Likes by candidate and the sum that the results API states."""
    document = get(f"{target.results_url}/v1/campaigns/{target.campaign}/results")
    return {row["code"]: row["likes"] for row in document["results"]}, document["likes"]


def baseline(target: Target) -> Baseline:
    """What the campaign holds before the run. Raises TargetError where it does not come to rest."""
    before = until(lambda: recount(target), lambda found: found.drained, REST_S_MAX)
    wanted = before.totals["counts"]
    by_candidate, total = until(lambda: published(target), lambda found: found[1] == wanted, REST_S_MAX)
    if not before.drained or total != wanted:
        raise TargetError(f"Campaign {target.campaign} is not at rest: somebody votes in it, or no tally worker runs.")
    return Baseline(before.totals, public_record(target), by_candidate, total)


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
        raise TargetError(f"Campaign {campaign} hides its results: choose one whose results are live.")
    codes = tuple(sorted(row["code"] for row in results["results"]))
    return Target(vote_url.rstrip("/"), results_url.rstrip("/"), campaign, data, rules["likes_per_window"], codes)


@contextmanager
def own_system(folder: Path, quota: int, voters: int) -> Iterator[Target]:
    """Start `dianzan up` on `folder` and free ports, with a campaign for the load; stop it in the end."""
    ports = {name: free_port() for name in ("vote", "results", "worker")}
    data = str(folder / "data")
    command = [sys.executable, "-m", "dianzan.cli", "up", "--data", data]
    command += [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
    printed = folder / "up.log"
    with printed.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(data), start_new_session=True)
    try:
        _wait_started(process, printed)
        _create_campaign(folder, data, quota, voters)
        vote_url, results_url = (f"http://127.0.0.1:{ports[name]}" for name in ("vote", "results"))
        _wait_served(vote_url, results_url)
        yield target_of(vote_url, results_url, "load", data)
    finally:
        process.send_signal(signal.SIGTERM)
        ended = process.wait(STOP_S_MAX)
    if ended != 0:
        raise TargetError(f"dianzan up ended with {ended}:\n{printed.read_text()}")


def free_port() -> int:
    """A loopback port that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_started(process: subprocess.Popen[bytes], printed: Path) -> None:
    deadline = time.monotonic() + START_S_MAX
    while STARTED not in printed.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise TargetError(f"dianzan up did not become ready:\n{printed.read_text()}")
        time.sleep(0.1)


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


def _wait_served(vote_url: str, results_url: str) -> None:
    """Both APIs read new campaigns within a second; without a token a known campaign answers 401, not 404."""
    addresses = (f"{vote_url}/v1/campaigns/load/likes/mine", f"{results_url}/v1/campaigns/load/results")
    deadline = time.monotonic() + SERVED_S_MAX
    while any(_status(address) == 404 for address in addresses):
        if time.monotonic() > deadline:
            raise TargetError(f"The campaign is not served after {SERVED_S_MAX} s.")
        time.sleep(0.1)


def _status(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_S_MAX) as answer:  # noqa: S310
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
