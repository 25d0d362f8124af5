"""Faults of the network between the services and their stores, and of clients that hang up."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from functools import partial

from dianzan.domain.voters import Voter, VoterClass
from tests.faults.http import Connection
from tests.faults.journal import Heard
from tests.faults.proxy import Mode
from tests.faults.registry import scenario
from tests.faults.run import Run
from tests.support.wait import until


async def _broken(run: Run, *, link: str, mode: Mode, seconds: float) -> None:
    proxy = run.world.proxies[link]
    before = run.load.unknown
    proxy.set(mode)
    try:
        if link.startswith("api"):
            await run.load.until_unknown(before)
        await asyncio.sleep(seconds)
    finally:
        proxy.heal()
    run.healed()


async def _cut(run: Run, *, link: str) -> None:
    before = run.load.unknown
    for _ in range(8):
        run.world.proxies[link].cut()
        await asyncio.sleep(run.rng.uniform(0.05, 0.3))
    if link.startswith("api"):
        assert run.load.unknown > before, "no cut met a batch"
    run.healed()


async def _half_closed(run: Run, *, link: str) -> None:
    proxy = run.world.proxies[link]
    for _ in range(4):
        before = proxy.opened
        proxy.half_close()

        async def opened(before: int = before) -> bool:
            return proxy.opened > before

        await until(opened, what=f"{link} is opened again")
    run.healed()


async def _slow(run: Run, *, link: str) -> None:
    run.world.proxies[link].delay_s = 0.2
    await asyncio.sleep(2.0)
    run.world.proxies[link].heal()
    run.healed()


for _link in ("api0-store", "worker0-store", "worker0-postgres"):
    _often = int(_link.startswith("api"))  # of what a second worker covers the smoke run shows the worst two
    for _name, _smoke, _full, _fault in (
        ("every reply is lost after its request was executed", 1, 6, partial(_broken, mode=Mode.deaf, seconds=1.5)),
        ("stalled", 1, 6, partial(_broken, mode=Mode.stall, seconds=2.0)),
        ("stalled 30 s", 0, 2, partial(_broken, mode=Mode.stall, seconds=30.0)),
        ("cut again and again", _often, 6, _cut),
        ("half-closed", _often, 6, _half_closed),
        ("200 ms slower each way", _often, 6, _slow),
    ):
        scenario(f"{_link}: {_name}", smoke=_smoke, full=_full)(partial(_fault, link=_link))


@scenario("a storm of clients that hang up in the middle")
async def hang_ups(run: Run) -> None:
    for wave in range(5):
        await asyncio.gather(*(_hang_up(run, wave * 80 + number) for number in range(80)))
    run.healed()


async def _hang_up(run: Run, number: int) -> None:
    """Every other client sends a whole request before it goes."""
    voter = run.document.key.voter_hash("device", b"storm %d" % number)
    code = run.document.candidates[number % len(run.document.candidates)]
    attempt = await run.load.journal.ask(voter, (code,), 0)
    token = run.document.key.token(Voter(voter, VoterClass.device, 0), 2**31)
    body = json.dumps({"candidates": [code]}).encode()
    head = f"POST /v1/campaigns/{run.campaign}/likes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    _reader, writer = await asyncio.open_connection("127.0.0.1", run.world.apis[0].port)
    writer.write(head.encode() + (body if number % 2 == 0 else body[:5]))
    await writer.drain()
    writer.transport.abort()
    run.load.journal.hear(attempt, Heard.unknown, code="hung up")


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
    statuses = Counter(s for a in run.load.attempts if a.voter == voter for s, _ in a.results.values())
    assert statuses["counted"] == run.document.rules.likes_per_window, statuses
    run.healed()


@scenario("one hot candidate, and few voters who like again and again")
async def hot_candidate(run: Run) -> None:
    run.load.favourite, run.load.voter_count = run.document.candidates[0], 60
    await run.load.until_liked(300)
    run.healed()
