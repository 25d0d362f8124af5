"""Load as fast as it is answered, on the load's core, by voters made beforehand: by `wrk`, otherwise by us."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dianzan.domain.campaign import Document
from dianzan.domain.voters import Voter, VoterClass
from dianzan.local.folder import HOST
from loadtests.bench import closed_loop
from loadtests.bench.errors import BenchError
from loadtests.bench.open_loop import percentile
from loadtests.stores import Server

SCRIPT = Path(__file__).with_name("requests.lua")
TOKEN_CHARS = 48
MADE_S = 4_000_000_000  # never too old


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

    def maker(self, first: int) -> Callable[[int], bytes]:
        """What requests.lua does, for a generator of our own."""
        template, sets = self.template.read_bytes().decode(), self.sets.read_text(encoding="ascii").split("\n")
        tokens = self.voters.path.read_text(encoding="ascii")

        def make(number: int) -> bytes:
            at = first + number
            token = tokens[at * TOKEN_CHARS : (at + 1) * TOKEN_CHARS]
            return template.replace("@TOKEN@", token).replace("@CANDIDATES@", sets[at % len(sets)]).encode()

        return make


def voters(folder: Path, document: Document, count: int) -> Voters:
    """Tokens of so many random voters, signed with the campaign's key."""
    path = folder / f"tokens-{document.rules.id}"
    hashes = os.urandom(16 * count)
    with path.open("w", encoding="ascii") as file:
        for at in range(0, len(hashes), 16):
            file.write(document.key.token(Voter(hashes[at : at + 16], VoterClass.device, 0), MADE_S))
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
    """Load a server for some seconds. Raises BenchError if an answer was not 2xx or broke off."""
    before, wrk = _cpu_s(), shutil.which("wrk")
    if wrk is None:
        return _by_ourselves(server, seconds, connections, likes.maker(first) if likes else _get(path, headers))
    command = [wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(SCRIPT)]
    command += [part for header in headers for part in ("-H", header)]
    command += [f"http://{HOST}:{server.port}{path}"]
    command += ["--", *likes.arguments(first)] if likes else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise BenchError(f"wrk ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    loaded = Loaded(**json.loads(done.stdout.strip().splitlines()[-1]), cpu_s=_cpu_s() - before)
    if loaded.refused or loaded.broken or not loaded.answers:
        raise BenchError(f"{server.name}: not every answer was 200, so nothing is said of its speed: {loaded}.")
    return loaded


def _by_ourselves(server: Server, seconds: float, connections: int, request: Callable[[int], bytes]) -> Loaded:
    before = _cpu_s()
    waits, took = closed_loop.play(server.port, request, seconds=seconds, connections=connections)
    p50, p99 = (round(percentile(waits, percent) * 1e3, 3) for percent in (50, 99))
    return Loaded(len(waits), took, 0, 0, p50, p99, cpu_s=_cpu_s() - before)


def _get(path: str, headers: Sequence[str]) -> Callable[[int], bytes]:
    request = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {HOST}", *headers, "", ""]).encode()
    return lambda _number: request


def _cpu_s() -> float:
    """CPU time of this process and its ended children: the load's own, if nothing is done beside it."""
    return sum(os.times()[:4])
