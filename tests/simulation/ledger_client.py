"""The Postgres edge as one process holds it: Ledger and its parts, over the simulated server and network.

Each class is the production class with every method overridden that a history calls, so that mypy holds the signatures
to the real ones; a method that is not overridden finds no pool and fails the history.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime
from functools import cache, partial
from typing import Any

import asyncpg
from typing_extensions import override

from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.errors import CampaignError, LedgerAway
from dianzan.domain.shard import Shard
from dianzan.domain.wire import Entry
from dianzan.ledger.campaigns import Campaigns
from dianzan.ledger.errors import mapped
from dianzan.ledger.flush import ShardFlush
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.likes import Likes
from dianzan.ledger.records import Contents, Seal, StoredCampaign
from dianzan.ledger.step import CampaignStep
from dianzan.ledger.tallies import Recounts
from dianzan.roster.candidates import Candidate
from tests.simulation.ledger_server import GONE, LedgerServer, Transaction
from tests.simulation.loop import Process
from tests.simulation.network import Answer, Network

POSTGRES_TIMEOUT_S = 3.0  # shortened like those of patches.py
LOCK_WAIT_S = 1.5


def _lost(reason: str) -> Exception:
    return TimeoutError(reason) if "in time" in reason else asyncpg.ConnectionDoesNotExistError(GONE)


@cache
def document_of(rules: Rules, version: int, state: State, candidates: int, secret: bytes) -> Document:
    """A campaign's document."""
    codes = tuple(f"c{n}" for n in range(1, candidates + 1))
    return Document(version=version, state=state, rules=rules, width=1, candidates=codes, secret=secret.hex())


class Client:
    """One process's connections to the server."""

    def __init__(self, server: LedgerServer, network: Network, process: Process) -> None:
        self.server, self._network, self._process = server, network, process
        self._link = network.link(process.name, "ledger")

    async def ask(self, deliver: Callable[[Answer], None]) -> Any:
        """Run something at the server."""

        def arrive(answer: Answer) -> None:
            if self.server.up:
                deliver(answer)
            else:
                answer(ConnectionRefusedError("the server is down"))

        with mapped():
            return await self._network.ask(self._link, arrive, timeout_s=POSTGRES_TIMEOUT_S, lost=_lost)

    async def read(self, look: Callable[[], Any]) -> Any:
        """What a query finds."""
        return await self.ask(lambda answer: answer(look()))

    @asynccontextmanager
    async def transaction(self, lock: str, *, wait_s: float | None) -> AsyncIterator[OpenTransaction]:
        """A transaction that has taken a lock, or has tried to: see LedgerServer.begin. Committed at the end."""
        transaction = Transaction(lock)
        self._process.on_kill.append(partial(self.server.miss, transaction))
        opened = OpenTransaction(self, transaction)
        try:
            await self.ask(partial(self.server.begin, transaction, wait_s))
            try:
                yield opened
            except LedgerAway:
                raise
            except Exception:
                await opened.ask(partial(self.server.roll_back, transaction))
                raise
            await opened.ask(partial(self.server.commit, transaction))
        except BaseException:
            self.server.miss(transaction)
            raise


class OpenTransaction:
    """A transaction as the process that began it holds it: once the server has ended it nothing is answered."""

    def __init__(self, client: Client, transaction: Transaction) -> None:
        self.server, self.transaction, self._client = client.server, transaction, client

    @property
    def locked(self) -> bool:
        """Whether it has the lock that it was begun with."""
        return self.transaction.wanted in self.transaction.locks

    async def ask(self, deliver: Callable[[Answer], None]) -> Any:
        """Run something at the server in this transaction."""

        def arrive(answer: Answer) -> None:
            if self.transaction.over:
                answer(asyncpg.ConnectionDoesNotExistError(GONE))
            else:
                deliver(answer)

        return await self._client.ask(arrive)

    async def read(self, look: Callable[[], Any]) -> Any:
        """What a query finds."""
        return await self.ask(lambda answer: answer(look()))

    async def change(self, change: Callable[[], None]) -> None:
        """Change the campaign's row at COMMIT."""
        await self.read(partial(self.transaction.changes.append, change))


class SimShardFlush(ShardFlush):
    """An open transaction of one shard's flush."""

    def __init__(self, opened: OpenTransaction, shard: Shard) -> None:
        self._opened, self._of = opened, shard

    @override
    async def insert(self, entries: Iterable[Entry]) -> int:
        likes = [
            ((entry.window_day, candidate, ballot.voter), entry.time_ms)
            for entry in entries
            for ballot in entry.ballots
            for candidate in ballot.candidates
        ]
        opened, shard = self._opened, self._of.number
        return int(await opened.ask(partial(opened.server.insert, opened.transaction, shard, likes)))

    @override
    async def counts(self) -> dict[int, int]:
        opened = self._opened
        return dict(await opened.read(lambda: opened.server.counts_in(opened.transaction, self._of.number)))

    @override
    async def estimate_people(self, people: Mapping[int, int]) -> None:
        """Estimates are not simulated; the round trip is."""
        await self._opened.read(lambda: None)


class SimStep(CampaignStep):
    """An open transaction of one step in the campaign's life."""

    def __init__(self, opened: OpenTransaction, campaign: StoredCampaign) -> None:
        self._opened, self._server, self.campaign = opened, opened.server, campaign

    @override
    async def lock_shards(self, shards: Iterable[Shard]) -> None:
        for shard in shards:
            take = partial(self._server.take, self._opened.transaction, _lock_of(shard), LOCK_WAIT_S)
            if not await self._opened.ask(take):
                raise CampaignError("A worker's flush has not ended.")

    @override
    async def has_likes(self) -> bool:
        return bool(await self._opened.read(lambda: bool(self._server.rows)))

    @override
    async def candidate_codes(self) -> dict[str, int]:
        candidates: dict[int, Candidate] = await self._opened.read(lambda: self._server.candidates)
        return {candidate.code: index for index, candidate in candidates.items()}

    @override
    async def publisher_codes(self) -> dict[str, int]:
        """No publisher is simulated."""
        return {}

    @override
    async def pass_version(self, version: int) -> int | None:
        assert self.campaign is not None
        if self.campaign.version >= version:
            return None
        await self._opened.change(partial(self._server.pass_version, version))
        return version + 1

    @override
    async def close(self, early: str = "") -> None:
        await self._opened.change(self._server.set_closed)

    @override
    async def now(self) -> datetime:
        return self._server.now()

    @override
    async def seal(self, seal: Seal) -> None:
        await self._opened.change(partial(self._server.set_sealed, seal))


class SimLikes(Likes):
    """The ledger of likes."""

    def __init__(self, client: Client) -> None:
        self._client, self._server = client, client.server

    @override
    @asynccontextmanager
    async def locked_shard(self, campaign: StoredCampaign, shard: Shard) -> AsyncIterator[ShardFlush | None]:
        async with self._client.transaction(_lock_of(shard), wait_s=None) as opened:
            yield SimShardFlush(opened, shard) if opened.locked else None

    @override
    async def shard_counts(self, campaign: StoredCampaign) -> dict[Shard, dict[int, int]]:
        counts = await self._client.read(self._server.shard_counts)
        return {shard: dict(counts.get(shard.number, {})) for shard in campaign.shards}

    @override
    async def voters_of(self, campaign: StoredCampaign, day: date) -> AsyncIterator[tuple[bytes, list[int]]]:
        for voter, candidates in (await self._client.read(lambda: self._server.voters_of(day))).items():
            yield voter, candidates


class SimCampaigns(Campaigns):
    """The one campaign."""

    def __init__(self, client: Client) -> None:
        self._client, self._server = client, client.server

    @override
    @asynccontextmanager
    async def step(self, campaign_id: str) -> AsyncIterator[CampaignStep]:
        async with self._client.transaction("campaign", wait_s=LOCK_WAIT_S) as opened:
            if not opened.locked:
                raise CampaignError(f"Another command on campaign {campaign_id} is running.")
            yield SimStep(opened, await opened.read(lambda: self._server.campaign))

    @override
    async def all(self) -> list[StoredCampaign]:
        return [await self._client.read(lambda: self._server.campaign)]

    @override
    async def one(self, campaign_id: str) -> StoredCampaign | None:
        [campaign] = await self.all()
        return campaign

    @override
    async def document(self, campaign: StoredCampaign) -> Document:
        candidates = len(await self.candidates(campaign))
        assert campaign.secret is not None
        return document_of(campaign.rules, campaign.version, campaign.state, candidates, campaign.secret)

    @override
    async def candidates(self, campaign: StoredCampaign) -> dict[int, Candidate]:
        return dict(await self._client.read(lambda: self._server.candidates))

    @override
    async def contents(self, campaign: StoredCampaign) -> Contents:
        candidates = await self.candidates(campaign)
        return Contents({}, [{"candidate": index, "code": c.code} for index, c in candidates.items()], [])

    @override
    async def seal(self, campaign: StoredCampaign) -> Seal | None:
        seal: Seal | None = await self._client.read(lambda: self._server.sealed)
        return seal


class SimRecounts(Recounts):
    """Likes or people per candidate."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @override
    async def counts_and_rows(self, campaign: StoredCampaign) -> tuple[dict[int, int], dict[int, int]]:
        counts, rows = await self._client.read(
            lambda: [self._client.server.recount(query) for query in ("recount_counts", "recount_ledger")]
        )
        return dict(counts), dict(rows)

    @override
    async def strays(self, campaign: StoredCampaign) -> dict[str, int]:
        """Rules are not simulated; the round trip is."""
        await self._client.read(lambda: None)
        return {}

    @override
    async def _per_candidate(self, query: str, campaign: StoredCampaign) -> dict[int, int]:
        return dict(await self._client.read(partial(self._client.server.recount, query)))


class SimLedger(Ledger):
    """One process's way to the ledger."""

    def __init__(self, server: LedgerServer, network: Network, process: Process) -> None:
        client = Client(server, network, process)
        self.campaigns, self.likes, self.recounts = SimCampaigns(client), SimLikes(client), SimRecounts(client)


def _lock_of(shard: Shard) -> str:
    return f"shard {shard.number}"
