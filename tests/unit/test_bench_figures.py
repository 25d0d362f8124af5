"""The bench's own arithmetic: waits count from the planned instant, a wrong count is an error, a median is judged."""

from __future__ import annotations

import asyncio

import pytest
from loadtests.bench import closed_loop
from loadtests.bench.contest import require_counted
from loadtests.bench.errors import BenchError
from loadtests.bench.figures import FIGURES, Measured
from loadtests.bench.groups.visible import delays
from loadtests.bench.open_loop import Answers, percentile, play

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def served(answer: bytes, *, after_s: float = 0.0) -> asyncio.Server:
    """A server that gives every request the same answer, one after another."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await asyncio.sleep(after_s)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def test_a_request_that_is_sent_late_has_waited_since_it_was_planned() -> None:
    async with await served(ANSWER, after_s=0.01) as server:
        answers = await play(port_of(server), [REQUEST] * 50, rate=1_000, connections=1)

    # Planned within 50 ms, answered one after another in 500 ms: the last has waited 450.
    assert answers.waits()[-1] >= 0.4
    assert percentile(answers.waits(), 50) >= 0.15


async def test_a_wait_includes_no_more_than_the_answer_where_the_server_keeps_up() -> None:
    async with await served(ANSWER) as server:
        answers = await play(port_of(server), [REQUEST] * 100, rate=200, connections=8)

    assert len(answers.waits()) == 100
    assert percentile(answers.waits(), 50) < 0.1
    assert answers.answered[-1] - answers.started >= 99 / 200


async def test_without_wrk_each_connection_sends_again_once_it_is_answered() -> None:
    asked: list[int] = []

    def request(number: int) -> bytes:
        asked.append(number)
        return REQUEST

    async with await served(ANSWER, after_s=0.01) as server:
        port = port_of(server)
        waits, took = await asyncio.to_thread(closed_loop.play, port, request, seconds=0.2, connections=4)

    assert asked == list(range(len(waits)))
    assert 4 < len(waits) <= 4 * (took / 0.01 + 1)
    assert waits[0] >= 0.009


async def test_an_answer_in_pieces_is_one_answer() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")
            for at in range(len(ANSWER)):
                writer.write(ANSWER[at : at + 1])
                await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        answers = await play(port_of(server), [REQUEST] * 3, rate=1_000, connections=1)

    assert all(answers.answered)


async def test_a_refusal_is_an_error() -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
    async with await served(refusal) as server:
        with pytest.raises(BenchError, match="503"):
            await play(port_of(server), [REQUEST], rate=10, connections=1)


def test_the_kth_like_of_a_candidate_is_visible_once_k_are_shown() -> None:
    # Planned long before, so that none is left out as one of the first second.
    answers = Answers(rate=1, started=0.0, answered=[10.0, 10.2, 10.3, 10.9])
    codes = ["a", "a", "b", "a"]
    seen = [
        (9.0, {"a": 5, "b": 0}),  # the base: likes of before
        (10.5, {"a": 6, "b": 1}),
        (11.0, {"a": 8, "b": 1}),
    ]

    assert delays(answers, codes, seen) == pytest.approx([0.1, 0.2, 0.5, 0.8])


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 51), (99, 100), (100, 100)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(1, 101)], percent) == expected


@pytest.mark.parametrize("counted", [999, 1_000 + 65])
def test_answers_and_counters_that_differ_are_an_error(counted: int) -> None:
    with pytest.raises(BenchError, match="the store counted"):
        require_counted("like", 1_000, counted, 1, 64)


@pytest.mark.parametrize("counted", [10_000, 10_640])
def test_each_connection_may_leave_one_request_unanswered(counted: int) -> None:
    require_counted("like10", 1_000, counted, 10, 64)


@pytest.mark.parametrize(
    ("key", "rounds", "verdict"),
    [
        ("1", [0.5, 0.61, 0.7], "met"),
        ("1", [0.5, 0.59, 0.99], "short"),
        ("1", [0.96], "aim met"),
        ("7b", [11.0], "met"),
        ("7b", [12.1], "short"),
        ("13", [1.5], "stated"),
        ("3", [], "skipped"),
    ],
)
def test_the_median_is_judged(key: str, rounds: list[float], verdict: str) -> None:
    assert Measured(key, rounds).verdict == verdict


def test_no_figure_aims_lower_than_it_should_reach() -> None:
    both = [(figure, figure.aim, figure.reach) for figure in FIGURES if figure.aim and figure.reach]

    assert both
    assert [figure.key for figure, aim, reach in both if not figure.met(aim, reach)] == []
