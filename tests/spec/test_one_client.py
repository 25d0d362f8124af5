"""What one client can take of a process, on each service's own port: little memory, little time, no second reading."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psutil
import pytest

from dianzan.domain.limits import ARRIVAL_S_MAX, HEAD_BYTES_MAX, HEADERS_MAX, URL_BYTES_MAX
from dianzan.http.connection import NOT_HTTP
from tests.support.client import CampaignClient
from tests.support.system import System
from tests.support.wait import until
from tests.support.wire import Wire, wired

CLIENTS = 20
MB_MAX = 60  # of all clients together: 3 MB a client
STUCK_S = 0.5  # without a byte taken a sender is taken to be stopped
SENDING_S_MAX = 6.0
SERVICES = ("vote_api", "results_api", "tally_worker")
ROUTES = [
    *[(service, path) for service in SERVICES for path in ("/healthz", "/metrics", "/nothing/here")],
    ("vote_api", "/v1/campaigns/{id}/likes/mine"),
    ("results_api", "/v1/campaigns/{id}/results"),
    ("results_api", "/v1/campaigns/{id}/results/stream"),
    ("results_api", "/"),
]


def port_of(system: System, service: str) -> int:
    ports = {"vote_api": system.vote_port, "results_api": system.results_port, "tally_worker": system.worker_port}
    return ports[service]


def send_on(sockets: list[socket.socket], request: bytes) -> None:
    """Send requests on every socket until all are stopped by the server, or the time is over; read nothing."""
    block = request * (65_536 // len(request))
    moved_at = began = time.monotonic()
    while (now := time.monotonic()) - moved_at < STUCK_S and now - began < SENDING_S_MAX:
        for each in sockets:
            try:
                each.send(block)
            except BlockingIOError:
                continue
            except OSError:  # cut off
                continue
            moved_at = now
        time.sleep(0.001)


@contextmanager
def unread(port: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CLIENTS)]
        for each in sockets:
            each.setblocking(False)
        yield sockets


@pytest.mark.parametrize(("service", "path"), ROUTES)
async def test_clients_that_ask_on_and_read_nothing_take_little_memory(
    system: System, open_campaign: CampaignClient, service: str, path: str
) -> None:
    process = psutil.Process(system.pid_of(service))
    before = process.memory_info().rss
    request = f"GET {path.format(id=open_campaign.id)} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with unread(port_of(system, service)) as sockets:
        await asyncio.to_thread(send_on, sockets, request)
        grown = process.memory_info().rss - before

    assert grown < MB_MAX * 1024**2, f"{grown // 1024**2} MB"


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz?" + b"x" * URL_BYTES_MAX + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\ncookie: " + b"x" * 2 * HEAD_BYTES_MAX + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * HEADERS_MAX + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\ncookie: " + b"x" * 2 * HEAD_BYTES_MAX,
        b"GET /" + b"x" * 2 * HEAD_BYTES_MAX,
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"x" * 2 * HEAD_BYTES_MAX,
    ],
    ids=["address", "header", "headers", "header without end", "address without end", "name without end"],
)
async def test_a_head_above_the_limits_is_refused(system: System, service: str, head: bytes) -> None:
    async with wired(port_of(system, service)) as wire:
        with suppress(ConnectionResetError):  # what was sent after the refusal is not read, and may undo the answer
            await wire.send(head)
            assert (await wire.answer()).status == 400
        await wire.until_closed()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_head_within_the_limits_is_answered(system: System, service: str) -> None:
    cookies = b"".join(b"cookie-%d: %s\r\n" % (n, b"x" * 200) for n in range(HEADERS_MAX - 1))
    async with wired(port_of(system, service)) as wire:
        await wire.send(
            b"GET /healthz?" + b"x" * (URL_BYTES_MAX - 20) + b" HTTP/1.1\r\nhost: x\r\n" + cookies + b"\r\n"
        )

        assert (await wire.answer()).status == 200


async def test_trailers_and_bodies_without_end_are_cut_off(system: System, open_campaign: CampaignClient) -> None:
    head = f"POST /v1/campaigns/{open_campaign.id}/voters HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    chunked = head.encode() + b"transfer-encoding: chunked\r\n\r\n"
    endless = {
        "trailer": (chunked + b"2\r\n{}\r\n0\r\nx: ", b"y" * 65_536),
        "chunks": (chunked, b"10\r\n" + b"x" * 16 + b"\r\n"),
        "body": (head.encode() + b"content-length: 999999999\r\n\r\n", b"x" * 65_536),
    }
    for start, part in endless.values():
        async with wired(system.vote_port) as wire:
            with pytest.raises(ConnectionError):
                await wire.send(start, *[part * (65_536 // len(part))] * 200)


def _unfinished(campaign: CampaignClient) -> dict[str, bytes]:
    like = f"POST /v1/campaigns/{campaign.id}/likes HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n"
    return {
        "silent": b"",
        "blank lines": b"\r\n",
        "half a line": b"GET /hea",
        "half a head": b"GET /healthz HTTP/1.1\r\nhost: x\r\n",
        "no body": like.encode() + b"\r\n",
        "half a body": like.encode() + b'\r\n{"candidates"',
    }


async def test_a_request_that_does_not_arrive_in_time_is_given_up(
    system: System, open_campaign: CampaignClient
) -> None:
    async def given_up(port: int, sent: bytes, more: bytes = b"") -> float:
        async with wired(port) as wire:
            began = time.monotonic()
            await wire.send(sent)
            closed = asyncio.create_task(wire.until_closed())
            while not closed.done() and time.monotonic() - began < ARRIVAL_S_MAX + 5:
                wire.writer.write(more)
                await asyncio.wait([closed], timeout=0.5)
            closed.cancel()
            return time.monotonic() - began

    ports = [port_of(system, service) for service in SERVICES]
    ways = [given_up(port, sent) for port in ports for sent in _unfinished(open_campaign).values()]
    ways += [given_up(port, b"GET /healthz HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n") for port in ports]
    ways += [given_up(port, b"", b"\r\n") for port in ports]
    took = await asyncio.gather(*ways)

    assert ARRIVAL_S_MAX - 2 < min(took) <= max(took) < ARRIVAL_S_MAX + 4, took


async def _status(wire: Wire, raw: bytes) -> int:
    await wire.send(raw)
    return (await wire.answer()).status


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: y\r\nHOST: b\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a/b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: u@a\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/0.9\r\nhost: a\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nhost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=[
        "no host",
        "two hosts",
        "two hosts apart",
        "two hosts of 1.0",
        "a blank in the host",
        "a path in the host",
        "a user in the host",
        "no version",
        "0.9",
        "2.0",
        "gzip, chunked",
        "identity",
        "chunks of 1.0",
    ],
)
async def test_what_a_strict_server_refuses_is_refused(system: System, service: str, raw: bytes) -> None:
    async with wired(port_of(system, service)) as wire:
        assert await _status(wire, raw) == 400
        assert await wire.ended()


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.0\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["no host of 1.0", "IPv6", "empty host", "chunks"],
)
async def test_what_the_standard_allows_is_answered(system: System, service: str, raw: bytes) -> None:
    async with wired(port_of(system, service)) as wire:
        assert await _status(wire, raw) == 200


async def test_bad_requests_are_counted_in_the_log_and_do_not_fill_it(system: System) -> None:
    log, wanted = system.data / "logs" / "results_api.log", 300
    logged, began = log.stat().st_size, time.monotonic()
    for _ in range(wanted):
        async with wired(system.results_port) as wire:
            assert await _status(wire, b"BAD\r\n\r\n") == 400

    async def counted() -> list[dict[str, Any]]:
        with log.open("rb") as file:
            file.seek(logged)
            lines = [found for line in file if (found := json.loads(line)).get("reason") == NOT_HTTP]
        return lines if sum(line.get("repeated", 1) for line in lines) >= wanted else []

    lines = await until(counted, what="every bad request is counted")
    assert len(lines) <= time.monotonic() - began + 3


async def test_what_is_refused_waits_for_the_answers_before_it(system: System) -> None:
    async with wired(system.results_port) as wire:
        await wire.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")

        assert (await wire.answer()).status == 200
        assert await wire.ended()


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("/v1/campaigns/{id}/likes%3Fx", "not_found"),
        ("/v1/campaigns/{id}/likes%3fx=1", "not_found"),
        ("/v1/campaigns/{id}%2Flikes", "not_found"),
        ("/v1/campaigns%2f{id}/likes", "not_found"),
        ("/v1/campaigns/{id}%2Fvoters", "not_found"),
        ("/v1/campaigns/{id}/likes%2F", "not_found"),
        ("/v1/campaigns/{id}%3F/likes", "campaign_unknown"),
        ("/v1/campaigns/{id}%2Fx/likes", "campaign_unknown"),
        ("/v1/campaigns/{id}%252Flikes", "not_found"),
    ],
)
async def test_an_escaped_slash_or_question_mark_is_part_of_a_name(
    open_campaign: CampaignClient, written: str, code: str
) -> None:
    voter = await open_campaign.voter()
    async with wired(open_campaign.system.vote_port) as wire:
        head = f"POST {written.format(id=open_campaign.id)} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        body = b'{"candidates": ["c01"]}'
        await wire.send(
            head.encode()
            + f"authorization: Bearer {voter.token}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        answer = await wire.answer()

    assert (answer.status, f'"code":"{code}"' in answer.body.decode()) == (404, True), answer


@pytest.mark.parametrize("written", ["/v1/campaigns/{id}%2Fresults", "/v1%2Fcampaigns/{id}", "/healthz%3Fx"])
async def test_the_results_have_one_spelling_too(open_campaign: CampaignClient, written: str) -> None:
    async with wired(open_campaign.system.results_port) as wire:
        assert (
            await _status(wire, f"GET {written.format(id=open_campaign.id)} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            == 404
        )
