"""The append file of a run: every ballot asked, every answer, every lost answer: all that the verdict reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from loadtests.load.verdict import Answer, Identity


@dataclass(frozen=True)
class Target:
    """The system and campaign under load. `data` finds the stores for the command line; None: by their two URLs."""

    vote_url: str
    results_url: str
    campaign: str
    data: str | None
    quota: int
    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Baseline:
    """What the campaign held before the run: totals by name, the public record, and what is published."""

    totals: Mapping[str, int]
    record: Mapping[tuple[str, str], int]
    published: Mapping[str, int]
    published_sum: int


class Journal:
    """Writes one JSON line an event. Lines are flushed at the end; a killed run loses its last few."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def head(self, target: Target, baseline: Baseline) -> None:
        """What the run is about; the first line."""
        record = [[candidate, receipt, n] for (candidate, receipt), n in baseline.record.items()]
        self._write("head", {"target": vars(target), "baseline": {**vars(baseline), "record": record}})

    def asked(self, number: int, token: str, candidates: Iterable[str]) -> None:
        """A ballot is about to be sent."""
        self._write("asked", number, token, list(candidates))

    def answered(self, number: int, body: Mapping[str, Any]) -> None:
        """A 200 arrived."""
        results = [[result["candidate"], result["status"], result.get("receipt")] for result in body["results"]]
        self._write("answered", number, body["resets_at"], results)

    def lost(self, number: int, why: str) -> None:
        """An answer did not arrive, or was 503: whether it counted is unknown until the ballot is asked again."""
        self._write("lost", number, why)

    def refused(self, number: int, status: int) -> None:
        """An answer that asking again will not change."""
        self._write("refused", number, status)

    def fell(self, what: str) -> None:
        """A published number fell."""
        self._write("fell", what)

    def _write(self, *event: Any) -> None:
        self._file.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")


@dataclass
class Story:
    """What a journal tells."""

    target: Target
    baseline: Baseline
    ballots: dict[int, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    settled: set[int] = field(default_factory=set)
    lost: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    falls: list[str] = field(default_factory=list)

    @property
    def open(self) -> list[int]:
        """Ballots that were never answered."""
        return sorted(self.ballots.keys() - self.settled)

    def answered(self, number: int, window: str, results: Iterable[tuple[str, str, str | None]]) -> None:
        """Take one answer in."""
        token, _candidates = self.ballots[number]
        self.settled.add(number)
        self.answers += [Answer(Identity(token, code, window), status, receipt) for code, status, receipt in results]

    def take(self, event: list[Any]) -> None:
        """Take one line of the journal in."""
        match event:
            case ["asked", int(number), str(token), list(candidates)]:
                self.ballots[number] = (token, tuple(candidates))
            case ["answered", int(number), str(window), list(results)]:
                self.answered(number, window, [(code, status, receipt) for code, status, receipt in results])
            case ["lost", int(number), str(_)]:
                self.lost[number] += 1
            case ["refused", int(number), int(status)]:
                self.refused[status] += 1
                self.settled.add(number)
            case ["fell", str(what)]:
                self.falls.append(what)
            case _:
                raise ValueError(f"not a line of a journal: {event!r}")


def read(path: Path) -> Story:
    """Read a journal back. Raises ValueError if the file is something else."""
    with path.open(encoding="utf-8") as lines:
        match json.loads(next(lines, "[]")):
            case ["head", dict(head)]:
                pass
            case _:
                raise ValueError(f"{path} is not the journal of a load run")
        target = Target(**{**head["target"], "candidates": tuple(head["target"]["candidates"])})
        record = {(candidate, receipt): n for candidate, receipt, n in head["baseline"]["record"]}
        story = Story(target, Baseline(**{**head["baseline"], "record": record}))
        for line in lines:
            story.take(json.loads(line))
    return story
