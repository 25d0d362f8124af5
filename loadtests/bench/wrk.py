"""Load as fast as it is answered: `wrk`, one thread on the load's core, walking through requests made beforehand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dianzan.campaign import Document
from dianzan.identity import Voter, VoterClass
from loadtests.bench.bed import HOST, Server
from loadtests.bench.errors import BenchError, Skipped

SCRIPT = Path(__file__).with_name("requests.lua")
TOKEN_CHARS = 48
EXPIRES_S = 4_000_000_000
WARM_UP_TOKENS = 0.2  # share of a pool's tokens that is left for the warm-up


@dataclass(frozen=True, slots=True)
class Loaded:
    """What wrk saw: complete answers, how many were not 2xx or broke off; and the CPU time it took itself."""

    answers: int
    seconds: float
    refused: int
    broken: int
    p50_ms: float
    p99_ms: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


@dataclass(frozen=True, slots=True)
class Voters:
    """A file of tokens, `count` of them, each of a voter who has never liked."""

    path: Path
    count: int


@dataclass(frozen=True, slots=True)
class Requests:
    """Like requests of one shape: the template's and the candidate sets' files beside the voters'."""

    voters: Voters
    template: Path
    sets: Path

    def arguments(self, first: int) -> list[str]:
        """What requests.lua is told."""
        return [str(self.voters.path), str(TOKEN_CHARS), str(first), str(self.template), str(self.sets)]


def voters(folder: Path, document: Document, count: int) -> Voters:
    """Tokens of so many random voters, signed with the campaign's key."""
    path = folder / f"tokens-{document.rules.id}"
    hashes = os.urandom(16 * count)
    with path.open("w", encoding="ascii") as file:
        for at in range(0, len(hashes), 16):
            file.write(document.key.token(Voter(hashes[at : at + 16], VoterClass.device, 0), EXPIRES_S))
    return Voters(path, count)


def requests(folder: Path, name: str, pool: Voters, template: str, sets: Sequence[str]) -> Requests:
    """Write the files that requests.lua reads."""
    paths = folder / f"{name}.template", folder / f"{name}.sets"
    paths[0].write_text(template, encoding="ascii")
    paths[1].write_text("\n".join(sets), encoding="ascii")
    return Requests(pool, *paths)


def post(path: str, body: str, *, bearer: str = "", lengths: int) -> str:
    """A POST as a template; `lengths` is what the placeholders in the body grow by."""
    authorization = f"Authorization: Bearer {bearer}\r\n" if bearer else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\n{authorization}Content-Type: application/json\r\n"
        f"Content-Length: {len(body) + lengths}\r\n\r\n{body}"
    )


def load(
    server: Server,
    *,
    seconds: float,
    connections: int,
    path: str = "/",
    likes: Requests | None = None,
    first: int = 0,
    headers: Sequence[str] = (),
) -> Loaded:
    """Load a server for some seconds. Raises BenchError where an answer was not 2xx or broke off."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise Skipped("wrk is not installed: apt install wrk")
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(SCRIPT)]
    command += [part for header in headers for part in ("-H", header)]
    command += [f"http://{HOST}:{server.port}{path}"]
    command += ["--", *likes.arguments(first)] if likes else []
    before = _children_cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise BenchError(f"wrk ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    loaded = Loaded(**json.loads(done.stdout.strip().splitlines()[-1]), cpu_s=_children_cpu_s() - before)
    if loaded.refused or loaded.broken or not loaded.answers:
        raise BenchError(f"{server.name}: not every answer was 200, so nothing is said of its speed: {loaded}.")
    return loaded


def _children_cpu_s() -> float:
    """CPU time of our children that have ended; wrk's own, where nothing else ends meanwhile."""
    times = os.times()
    return times.children_user + times.children_system
