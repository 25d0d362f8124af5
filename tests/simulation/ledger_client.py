"""The Postgres edge as one process holds it: the methods of Ledger, over the simulated server and network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import date
from functools import cache, partial
from random import Random
from typing import Any

import asyncpg

from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.errors import CampaignError
from dianzan.domain.shard import Shard
from dianzan.domain.windows import from_ms
from dianzan.domain.wire import Entry
from dianzan.ledger.errors import mapped
from dianzan.ledger.records import Seal, StoredCampaign, Tally
from dianzan.roster.candidates import Candidate
from tests.simulation.ledger_server import GONE, LedgerServer, Transaction
from tests.simulation.loop import Process, SimLoop
from tests.simulation.network import Answer, Network

POSTGRES_TIMEOUT_S = 3.0  # shortened like those of patches.py
LOCK_WAIT_S = 1.5
NOTICES_S = 0.5  # until the server misses a client that has died


def _lost(reason: str) -> Exception:
    return TimeoutError(reason) if "in time" in reason else asyncpg.ConnectionDoesNotExistError(GONE)


@cache
def document_of(rules: Rules, version: int, state: State, candidates: int, secret: bytes) -> Document:
    """A campaign's document."""
    codes = tuple(f"c{n}" for n in range(1, candidates + 1))
    return Document(version=version, state=state, rules=rules, width=1, candidates=codes, secret=secret.hex())


class SimShardFlush:
    """An open transaction of one shard's flush."""

    def __init__(self, ledger: SimLedger, transaction: Transaction, shard: int) -> None:
        self._ledger, self._transaction, self._shard = ledger, transaction, shard

    async def insert(self, entries: Iterable[Entry]) -> int:
        """Insert the entries' likes; how many were new."""
        likes = [
            ((entry.window_day, candidate, ballot.voter), entry.time_ms)
            for entry in entries
            for ballot in entry.ballots
            for candidate in ballot.candidates
        ]
        server = self._ledger.server
        return int(await self._ledger.ask(lambda a: server.insert(a, self._transaction, self._shard, likes)))

    async def counts(self) -> dict[int, int]:
        """Likes per candidate of this shard, those of this transaction included."""
        return dict(await self._ledger.read(lambda: self._ledger.server.counts_in(self._transaction, self._shard)))

    async def estimate_people(self, _people: Mapping[int, int]) -> None:
        """Estimates are not simulated; the round trip is."""
        await self._ledger.read(lambda: None)


class SimStep:
    """An open transaction of one step in the campaign's life."""

    def __init__(self, ledger: SimLedger, transaction: Transaction, campaign: StoredCampaign) -> None:
        self._ledger, self._transaction, self.campaign = ledger, transaction, campaign

    async def lock_shards(self, shards: Iterable[Shard]) -> None:
        """Wait for the flushes of these shards."""
        server = self._ledger.server
        for shard in shards:
            lock = f"shard {shard.number}"
            take = partial(server.take_waiting, transaction=self._transaction, lock=lock, wait_s=LOCK_WAIT_S)
            if await self._ledger.ask(take) is None:
                raise CampaignError("A worker's flush has not ended.")

    async def has_likes(self) -> bool:
        """Whether the ledger holds any like."""
        return bool(await self._ledger.read(lambda: bool(self._ledger.server.rows)))

    async def candidate_codes(self) -> dict[str, int]:
        """Code -> index."""
        candidates = await self._ledger.campaigns.candidates(self.campaign)
        return {candidate.code: index for index, candidate in candidates.items()}

    async def publisher_codes(self) -> dict[str, int]:
        """No publisher is simulated."""
        return {}

    async def pass_version(self, version: int) -> int | None:
        """Past a later version, at COMMIT."""
        if self.campaign.version >= version:
            return None
        await self._change(lambda: self._ledger.server.pass_version(version))
        return version + 1

    async def close(self) -> None:
        """published -> closed, at COMMIT."""
        await self._change(self._ledger.server.set_closed)

    async def seal(self, _likes: int, _people: int, tallies: Mapping[int, tuple[int, Tally]]) -> None:
        """The final tally, at COMMIT."""
        await self._change(lambda: self._ledger.server.set_sealed(tallies))

    async def _change(self, change: Callable[[], None]) -> None:
        def queue(answer: Answer) -> None:
            if self._transaction.over:
                answer(asyncpg.ConnectionDoesNotExistError(GONE))
            else:
                self._transaction.changes.append(change)
                answer(None)

        await self._ledger.ask(queue)


class SimLedger:
    """One process's way to the ledger."""

    def __init__(self, server: LedgerServer, loop: SimLoop, network: Network, process: Process, rng: Random) -> None:
        self.server, self._loop, self._network = server, loop, network
        self._process, self._random = process, rng.random
        self._link = network.link(process.name, "ledger")
        self.campaigns = SimCampaigns(self)
        self.likes = SimLikes(self)
        self.recounts = SimRecounts(self)

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

    # ---- transactions -----------------------------------------------------------------------------------------------

    async def begun(self, begin: Callable[[Answer], None]) -> Any:
        """Begin; where nobody is there any more to be told, the server notices."""
        begun: list[Transaction] = []
        given_up = False

        def deliver(answer: Answer) -> None:
            begin(lambda value: noted(value, answer))

        def noted(value: Any, answer: Answer) -> None:
            transaction = value[0] if isinstance(value, tuple) else value
            if isinstance(transaction, Transaction):
                begun.append(transaction)
                self._process.on_kill.append(lambda: self._miss(transaction))
                if given_up or not self._process.alive:
                    self._miss(transaction)
            answer(value)

        try:
            return await self.ask(deliver)
        except BaseException:
            given_up = True
            for transaction in begun:
                self._miss(transaction)
            raise

    @asynccontextmanager
    async def transaction(self, transaction: Transaction) -> AsyncIterator[None]:
        try:
            yield
        except BaseException:
            self._miss(transaction)
            raise
        try:
            await self.ask(lambda answer: self.server.commit(answer, transaction))
        except BaseException:
            self._miss(transaction)
            raise

    def _miss(self, transaction: Transaction) -> None:
        """Its client is gone, or has asked for ROLLBACK: the server ends it, a little later."""
        self._loop.later(NOTICES_S * self._random() ** 3 + 0.002, self.server.roll_back, transaction)


class SimLikes:
    """The ledger of likes."""

    def __init__(self, ledger: SimLedger) -> None:
        self._ledger, self._server = ledger, ledger.server

    @asynccontextmanager
    async def locked_shard(self, _campaign: StoredCampaign, shard: Shard) -> AsyncIterator[SimShardFlush | None]:
        """A transaction that holds the shard's lock; None where another worker holds it."""
        begun = self._ledger.begun(lambda answer: self._server.begin(answer, f"shard {shard.number}"))
        transaction, locked = await begun
        async with self._ledger.transaction(transaction):
            yield SimShardFlush(self._ledger, transaction, shard.number) if locked else None

    async def shard_counts(self, campaign: StoredCampaign) -> dict[Shard, dict[int, int]]:
        """Shard -> candidate -> likes by the counts."""
        counts = await self._ledger.read(self._server.shard_counts)
        return {shard: dict(counts.get(shard.number, {})) for shard in campaign.shards}

    async def voters_of(self, _campaign: StoredCampaign, day: date) -> AsyncIterator[tuple[bytes, list[int]]]:
        """Each voter of one window with the candidates liked."""
        for voter, candidates in (await self._ledger.read(lambda: self._server.voters_of(day))).items():
            yield voter, candidates


class SimCampaigns:
    """The one campaign."""

    def __init__(self, ledger: SimLedger) -> None:
        self._ledger, self._server = ledger, ledger.server

    @asynccontextmanager
    async def step(self, campaign_id: str) -> AsyncIterator[SimStep]:
        """A transaction that holds the campaign's lock."""
        begun = self._ledger.begun(lambda answer: self._server.begin_waiting(answer, "campaign", LOCK_WAIT_S))
        transaction = await begun
        if transaction is None:
            raise CampaignError(f"Another command on campaign {campaign_id} is running.")
        async with self._ledger.transaction(transaction):
            yield SimStep(self._ledger, transaction, await self.one(campaign_id))

    async def all(self) -> list[StoredCampaign]:
        """All campaigns."""
        return [await self.one("")]

    async def one(self, _campaign_id: str) -> StoredCampaign:
        """The one campaign."""
        campaign: StoredCampaign = await self._ledger.read(lambda: self._server.campaign)
        return campaign

    async def document(self, campaign: StoredCampaign) -> Document:
        """Its document."""
        candidates = len(await self.candidates(campaign))
        assert campaign.secret is not None
        return document_of(campaign.rules, campaign.version, campaign.state, candidates, campaign.secret)

    async def candidates(self, _campaign: StoredCampaign) -> dict[int, Candidate]:
        """Index -> candidate."""
        return dict(await self._ledger.read(lambda: self._server.candidates))

    async def seal(self, _campaign: StoredCampaign) -> Seal | None:
        """The published tally."""
        tallies = await self._ledger.read(lambda: self._server.sealed)
        if tallies is None:
            return None
        likes = sum(tally.likes for _rank, tally in tallies.values())
        return Seal(from_ms(0), likes, 0, tallies)


class SimRecounts:
    """Likes or people per candidate."""

    def __init__(self, ledger: SimLedger) -> None:
        self._ledger, self._server = ledger, ledger.server

    async def counts(self, _campaign: StoredCampaign) -> dict[int, int]:
        """Likes by the counts."""
        return dict(await self._ledger.read(self._server.counted))

    async def rows(self, _campaign: StoredCampaign) -> dict[int, int]:
        """Likes by the rows."""
        return dict(await self._ledger.read(lambda: self._server.per_candidate(self._server.every_row())))

    async def identities(self, _campaign: StoredCampaign) -> dict[int, int]:
        """Likes by distinct identities."""
        return dict(await self._ledger.read(lambda: self._server.per_candidate(self._server.rows)))

    async def people(self, _campaign: StoredCampaign) -> dict[int, int]:
        """Distinct voters."""
        return dict(await self._ledger.read(self._server.people))
