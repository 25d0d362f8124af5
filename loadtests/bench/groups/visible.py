"""Figure 9: the time from the answer to a like until the results show it, in the whole system, nothing pinned."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import uvloop

from dianzan.domain.campaign import Document
from dianzan.domain.wire import shard_of
from dianzan.local.folder import HOST
from loadtests.bench.bed import CAMPAIGN, Bed, published, serving
from loadtests.bench.errors import BenchError
from loadtests.bench.figures import Measured
from loadtests.bench.open_loop import Answers, percentile, play
from loadtests.bench.options import Scale
from loadtests.bench.requests import like_requests

RATE = 5_000
CONNECTIONS = 64
LOOK_EVERY_S = 0.02  # so a like may be seen this much late, which counts against us
SEEN_S_MAX = 30.0
SKIPPED_S = 1.0

Seen = list[tuple[float, dict[str, int]]]  # when a document arrived, likes by code


class _Row(msgspec.Struct):
    code: str
    likes: int


class _Results(msgspec.Struct):
    likes: int
    results: list[_Row]


def measure(bed: Bed, scale: Scale) -> list[Measured]:
    """Likes at a fixed rate for some seconds, while the results are asked for fifty times a second."""
    document = published(bed, CAMPAIGN)
    rounds, details = [], []
    with (
        serving(bed, "vote_api", port_name="DIANZAN_VOTE_PORT") as vote,
        serving(bed, "tally_worker", port_name="DIANZAN_WORKER_PORT"),
        serving(bed, "results_api", port_name="DIANZAN_RESULTS_PORT") as results,
    ):
        for _ in range(min(scale.rounds, 3)):
            requests, codes = like_requests(document, round(RATE * scale.visible_s), code_of)
            answers, seen = uvloop.run(_run(vote.port, results.port, document, requests))
            waits = delays(answers, codes, seen)
            rounds.append(percentile(waits, 99))
            details.append({"p50_s": percentile(waits, 50), "max_s": waits[-1], "likes": len(waits)})
    return [Measured("9", rounds, details={"rate": RATE, "rounds": details})]


async def _run(
    vote_port: int, results_port: int, document: Document, requests: Sequence[bytes]
) -> tuple[Answers, Seen]:
    """The base is what the results show before; they must show every like of the round in the end."""
    reader, writer = await asyncio.open_connection(HOST, results_port)
    path = f"/v1/campaigns/{document.rules.id}/results"
    seen: Seen = [(time.perf_counter(), await _look(reader, writer, path))]
    wanted = sum(seen[0][1].values()) + len(requests)

    async def look_until_all() -> None:
        while sum(seen[-1][1].values()) < wanted:
            await asyncio.sleep(LOOK_EVERY_S)
            found = await _look(reader, writer, path)
            seen.append((time.perf_counter(), found))

    looking = asyncio.create_task(look_until_all(), name="look")
    answers = await play(vote_port, requests, rate=RATE, connections=CONNECTIONS)
    try:
        await asyncio.wait_for(looking, SEEN_S_MAX)
    except TimeoutError as error:
        raise BenchError(f"{wanted:,} likes are not shown {SEEN_S_MAX:g} s after the last.") from error
    writer.close()
    if sum(seen[-1][1].values()) != wanted:
        raise BenchError(f"The results show {sum(seen[-1][1].values()):,} likes, not {wanted:,}.")
    return answers, seen


def delays(answers: Answers, codes: Sequence[str], seen: Seen) -> list[float]:
    """Seconds from each answer to the first document that shows it, sorted.

    All likes of one candidate are of one shard, and a shard's likes become visible in the order in which they were
    counted: so the k-th of a candidate is visible once k are shown, except that likes of one batch change places.
    """
    answered: dict[str, list[float]] = defaultdict(list)
    for code, at in zip(codes, answers.answered, strict=True):
        answered[code].append(at)
    found: list[float] = []
    for code, instants in answered.items():
        base, place = seen[0][1][code], 0
        for number, at in enumerate(sorted(instants), start=1):
            while seen[place][1][code] - base < number:
                place += 1
            if at >= answers.started + SKIPPED_S:
                found.append(max(0.0, seen[place][0] - at))
    return sorted(found)


async def _look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> dict[str, int]:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise BenchError(f"The results were answered {head.decode()}")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    document = msgspec.json.decode(await reader.readexactly(length), type=_Results)
    return {row.code: row.likes for row in document.results}


def code_of(document: Document, voter: bytes, number: int) -> str:
    """One of the eight candidates whose likes are all of the voter's shard."""
    shards, codes = document.rules.shards, document.candidates
    each = len(codes) // shards
    return codes[shard_of(voter, shards) * each + number % each]
