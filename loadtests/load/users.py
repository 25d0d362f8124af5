"""The users of the load, in Locust: voters who follow the plan, readers who keep to the ratio, readers of the stream.

Importing this module lets gevent patch the standard library; only the generator does.
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import urlsplit

# isort: off
from locust import FastHttpUser, User, task  # first: it patches the modules that gevent must
import gevent
from locust.contrib.fasthttp import FastResponse

# isort: on

from loadtests.load.journal import Journal, Target
from loadtests.load.plan import Ballot
from loadtests.load.verdict import Watch

ATTEMPTS_MAX = 8  # of one request during the load; what is still open is asked again at the end
RETRY_AFTER_S_MAX = 2.0
ANSWER_S_MAX = 10.0
STREAM_IDLE_S_MAX = 30.0  # twice the stream's keep-alive
STREAM_LINE_BYTES_MAX = 4 * 1024 * 1024
RECONNECT_S = 2.0  # as the stream's own `retry` line asks
IDLE_S = 0.005
READS = ("results", "candidate", "timeline", "tally.csv")
READ_WEIGHTS = (80, 12, 5, 3)


@dataclass
class Load:
    """What all users share: the plan they follow, the journal they write and what they have done so far."""

    target: Target
    journal: Journal
    watch: Watch
    tokens: Sequence[str]
    ballots: Iterator[Ballot]
    reads_per_like: float
    chance: Callable[[], float]
    choose_read: Callable[[], str]
    started_s: float = 0.0
    stopping: bool = False
    readers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    done: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    behind_s_max: float = 0.0
    streams: set[http.client.HTTPConnection] = field(default_factory=set)

    def stop(self) -> None:
        """Send nothing new. Streams are cut, since a quiet one would be waited for until its next keep-alive."""
        self.stopping = True
        for connection in self.streams:
            if connection.sock is not None:
                connection.sock.shutdown(socket.SHUT_RDWR)

    def next_ballot(self) -> Ballot | None:
        """The next ballot of the plan, once it is due; None while there is none."""
        ballot = None if self.stopping else next(self.ballots, None)
        if ballot is None:
            return None
        wait_s = self.started_s + ballot.due_s - time.monotonic()
        if wait_s > 0:
            gevent.sleep(wait_s)
        if self.stopping:
            return None
        self.behind_s_max = max(self.behind_s_max, time.monotonic() - self.started_s - ballot.due_s)
        return ballot

    def read_is_due(self) -> bool:
        """Whether another read keeps within the ratio of reads to like requests."""
        return not self.stopping and self.done["reads"] < self.done["like requests"] * self.reads_per_like


class Voter(FastHttpUser):
    """Sends the plan's ballots; repeats what was not answered with the same body until it is."""

    load: ClassVar[Load]
    network_timeout = ANSWER_S_MAX
    connection_timeout = ANSWER_S_MAX

    @task
    def vote(self) -> None:
        """One ballot in its manner."""
        ballot = self.load.next_ballot()
        if ballot is None:
            gevent.sleep(IDLE_S)
            return
        self.load.journal.asked(ballot.number, self.load.tokens[ballot.voter], ballot.candidates)
        if ballot.manner == "double_tap":
            self.load.done["double taps"] += 1
            gevent.joinall([gevent.spawn(self.ask, ballot) for _ in range(2)], raise_error=True)
            return
        self.ask(ballot)
        if ballot.manner == "retry":
            self.load.done["deliberate retries"] += 1
            self.ask(ballot)

    def ask(self, ballot: Ballot) -> None:
        """Send one request and write down what came of it, also if this user is stopped meanwhile."""
        answered = False
        try:
            for attempt in range(ATTEMPTS_MAX):
                self.load.done["repeats after 503 or no answer"] += attempt > 0
                answered, wait_s = self._attempt(ballot)
                if answered:
                    return
                gevent.sleep(wait_s)
        finally:
            if not answered:
                self.load.journal.lost(ballot.number, "given up")

    def _attempt(self, ballot: Ballot) -> tuple[bool, float]:
        load = self.load
        load.done["like requests"] += 1
        answer = self.client.post(
            f"/v1/campaigns/{load.target.campaign}/likes",
            json={"candidates": ballot.candidates},
            headers={"Authorization": f"Bearer {load.tokens[ballot.voter]}"},
            name="like",
        )
        load.statuses["like", answer.status_code] += 1
        if answer.status_code == 200:
            body = answer.json()
            load.done.update(result["status"] for result in body["results"])
            load.journal.answered(ballot.number, body)
            return True, 0.0
        if answer.status_code not in (0, 503):
            load.journal.refused(ballot.number, answer.status_code)
            return True, 0.0
        load.journal.lost(ballot.number, f"HTTP {answer.status_code}")
        return False, min(RETRY_AFTER_S_MAX, float(_header(answer, "retry-after", "1")))


class Reader(FastHttpUser):
    """Reads as pages and widgets do: mostly the results, asking with the entity tag of what it has."""

    load: ClassVar[Load]
    network_timeout = ANSWER_S_MAX
    connection_timeout = ANSWER_S_MAX

    def on_start(self) -> None:
        """Become a reader who has seen nothing yet."""
        self.reader = f"reader {next(self.load.readers)}"
        self.tag = ""

    @task
    def read(self) -> None:
        """One read, or a pause while the ratio is kept."""
        if not self.load.read_is_due():
            gevent.sleep(IDLE_S)
            return
        kind = self.load.choose_read()
        address = f"/v1/campaigns/{self.load.target.campaign}/{self._path(kind)}"
        self.load.done["reads"] += 1
        headers = {"If-None-Match": self.tag} if kind == "results" and self.tag else {}
        answer = self.client.get(address, headers=headers, name=kind)
        self.load.statuses[kind, answer.status_code] += 1
        if kind == "results" and answer.status_code == 200:
            self.tag = _header(answer, "etag", "")
            self._see(answer.json())

    def _path(self, kind: str) -> str:
        codes = self.load.target.candidates
        return f"candidates/{codes[int(self.load.chance() * len(codes))]}" if kind == "candidate" else kind

    def _see(self, document: dict[str, Any]) -> None:
        numbers = [(row["code"], row["likes"]) for row in document["results"]]
        self.load.watch.see(self.reader, [("the sum", document["likes"]), *numbers])


class StreamReader(User):
    """Holds one event stream open for the whole run and watches the numbers in it."""

    load: ClassVar[Load]

    @task
    def follow(self) -> None:
        """One stream, until it ends or the run does."""
        if self.load.stopping:
            gevent.sleep(IDLE_S)
            return
        self.load.done["reads"] += 1
        self.load.done["streams opened"] += 1
        address = urlsplit(self.load.target.results_url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=STREAM_IDLE_S_MAX)
        self.load.streams.add(connection)
        try:
            self._follow(connection, f"stream {self.load.done['streams opened']}")
        except (OSError, http.client.HTTPException) as error:
            if not self.load.stopping:
                self._note(0, 0.0, error)
                gevent.sleep(RECONNECT_S)
        finally:
            self.load.streams.discard(connection)
            connection.close()

    def _follow(self, connection: http.client.HTTPConnection, reader: str) -> None:
        started = time.perf_counter()
        connection.request("GET", f"/v1/campaigns/{self.load.target.campaign}/results/stream")
        answer = connection.getresponse()
        self._note(answer.status, (time.perf_counter() - started) * 1000, None)
        while not self.load.stopping and (line := answer.readline(STREAM_LINE_BYTES_MAX)):
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                self.load.done["stream events"] += 1
                numbers = [(code, row[1]) for code, row in event["counts"].items()]
                self.load.watch.see(reader, [("the sum", event["likes"]), *numbers])

    def _note(self, status: int, took_ms: float, error: Exception | None) -> None:
        self.load.statuses["stream", status] += 1
        self.environment.events.request.fire(
            request_type="GET", name="stream", response_time=took_ms, response_length=0, exception=error, context={}
        )


def _header(answer: FastResponse, name: str, default: str) -> str:
    found = answer.headers.get(name) if answer.headers is not None else None
    return found if isinstance(found, str) else default
