"""Faults of the network between the services and their stores, and of clients that hang up."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from dianzan.domain.voters import Voter, VoterClass
from tests.faults.http import Connection
from tests.faults.journal import Heard
from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.support.wait import until

LINKS = ("api0-store", "worker0-store", "worker0-postgres")


async def _unknown(run: Run, *, more_than: int) -> None:
    async def heard() -> bool:
        return run.load.unknown > more_than

    await until(heard, within_s=15, what="a voter does not know")


def _broken(link: str) -> None:
    often = 1 if link.startswith("api") else 0  # of what a second worker covers the smoke run shows the worst two

    @scenario(f"{link}: every reply is lost after its request was executed")
    async def deaf(run: Run) -> None:
        await _for_a_while(run, link, Mode.deaf, 1.5)

    @scenario(f"{link}: stalled")
    async def stalled(run: Run) -> None:
        await _for_a_while(run, link, Mode.stall, 2.0)

    @scenario(f"{link}: stalled 30 s", smoke=0, full=2)
    async def stalled_long(run: Run) -> None:
        await _for_a_while(run, link, Mode.stall, 30.0)

    @scenario(f"{link}: cut again and again", smoke=often)
    async def cut(run: Run) -> None:
        proxy = run.world.proxies[link]
        before = run.load.unknown
        for _ in range(8):
            proxy.cut()
            await asyncio.sleep(run.rng.uniform(0.05, 0.3))
        if link.startswith("api"):
            assert run.load.unknown > before, "no cut met a batch"
        run.healed()

    @scenario(f"{link}: half-closed", smoke=often)
    async def half_closed(run: Run) -> None:
        for _ in range(4):
            run.world.proxies[link].half_close()
            await asyncio.sleep(0.3)
        run.healed()

    @scenario(f"{link}: 200 ms slower each way", smoke=often)
    async def slow(run: Run) -> None:
        proxy = run.world.proxies[link]
        proxy.delay_s = 0.2
        await asyncio.sleep(2.0)
        proxy.heal()
        run.healed()


for _link in LINKS:
    _broken(_link)


async def _for_a_while(run: Run, link: str, mode: Mode, seconds: float) -> None:
    proxy = run.world.proxies[link]
    before = run.load.unknown
    proxy.set(mode)
    try:
        if link.startswith("api"):
            await _unknown(run, more_than=before)
        await asyncio.sleep(seconds)
    finally:
        proxy.heal()
    run.healed()


@scenario("a storm of clients that hang up in the middle")
async def hang_ups(run: Run) -> None:
    async def hang_up(number: int) -> None:
        whole = number % 2 == 0
        voter = run.document.key.voter_hash("device", b"storm %d" % number)
        code = run.document.candidates[number % len(run.document.candidates)]
        attempt = await run.load.journal.ask(voter, (code,), 0)
        token = run.document.key.token(Voter(voter, VoterClass.device, 0), 2**31)
        body = json.dumps({"candidates": [code]}).encode()
        head = f"POST /v1/campaigns/{run.campaign}/likes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        _reader, writer = await asyncio.open_connection("127.0.0.1", run.world.apis[0].port)
        writer.write(head.encode() + (body if whole else body[:5]))
        await writer.drain()
        writer.transport.abort()
        run.load.journal.hear(attempt, Heard.unknown, code="hung up")

    for wave in range(5):
        await asyncio.gather(*(hang_up(wave * 80 + n) for n in range(80)))
    run.healed()


@scenario("1,000 likes of one voter at once", full=6, likes_per_window=3)
async def one_voter(run: Run) -> None:
    voter = run.document.key.voter_hash("device", b"greedy")
    connections = [[Connection(api.port) for api in run.world.apis] for _ in range(50)]

    async def likes(mine: list[Connection], number: int) -> None:
        for n in range(20):
            code = run.document.candidates[(number + n) % len(run.document.candidates)]
            await run.load.ask(mine, n % 2, voter, (code,))

    await asyncio.gather(*(likes(mine, number) for number, mine in enumerate(connections)))
    for connection in (c for mine in connections for c in mine):
        connection.close()
    statuses = Counter(s for a in run.load.journal.attempts if a.voter == voter for s, _ in a.results.values())
    assert statuses["counted"] == run.document.rules.likes_per_window, statuses
    run.healed()


@scenario("one hot candidate, and few voters who like again and again")
async def hot_candidate(run: Run) -> None:
    run.load.favourite, run.load.voter_count = run.document.candidates[0], 60
    await run.load.until_liked(300)
    run.healed()
