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
from dianzan.domain.windows import from_ms
from dianzan.domain.wire import Entry
from dianzan.ledger.ledger import Seal, StoredCampaign, Tally
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
            ((entry.window_day, candidate, ballot[0]), entry.time_ms)
            for entry in entries
            for ballot in entry.ballots
            for candidate in ballot[4]
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

    def __init__(self, ledger: SimLedger, transaction: Transaction, stored: StoredCampaign) -> None:
        self._ledger, self._transaction, self.stored = ledger, transaction, stored

    async def lock_shards(self, _number: int, shards: Iterable[int]) -> None:
        """Wait for the flushes of these shards."""
        server = self._ledger.server
        for shard in shards:
            lock = f"shard {shard}"
            take = partial(server.take_waiting, transaction=self._transaction, lock=lock, wait_s=LOCK_WAIT_S)
            if await self._ledger.ask(take) is None:
                raise CampaignError("A worker's flush has not ended.")

    async def has_likes(self, _number: int) -> bool:
        """Whether the ledger holds any like."""
        return bool(await self._ledger.read(lambda: bool(self._ledger.server.rows)))

    async def candidate_codes(self, number: int) -> dict[str, int]:
        """Code -> index."""
        return {candidate.code: index for index, candidate in (await self._ledger.candidates(number)).items()}

    async def pass_version(self, version: int) -> int | None:
        """Past a later version, at COMMIT."""
        if self.stored.version >= version:
            return None
        await self._change(lambda: self._ledger.server.pass_version(version))
        return version + 1

    async def close(self) -> None:
        """published -> closed, at COMMIT."""
        await self._change(self._ledger.server.set_closed)

    async def seal(self, _number: int, _likes: int, _people: int, tallies: Mapping[int, tuple[int, Tally]]) -> None:
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

    async def ask(self, deliver: Callable[[Answer], None]) -> Any:
        """Run something at the server."""

        def arrive(answer: Answer) -> None:
            if self.server.up:
                deliver(answer)
            else:
                answer(ConnectionRefusedError("the server is down"))

        return await self._network.ask(self._link, arrive, timeout_s=POSTGRES_TIMEOUT_S, lost=_lost)

    async def read(self, look: Callable[[], Any]) -> Any:
        """What a query finds."""
        return await self.ask(lambda answer: answer(look()))

    # ---- transactions -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def locked_shard(self, _campaign: int, shard: int) -> AsyncIterator[SimShardFlush | None]:
        """A transaction that holds the shard's lock; None where another worker holds it."""
        begun = self._begun(lambda answer: self.server.begin(answer, f"shard {shard}"))
        transaction, locked = await begun
        async with self._transaction(transaction):
            yield SimShardFlush(self, transaction, shard) if locked else None

    @asynccontextmanager
    async def step(self, campaign: str) -> AsyncIterator[SimStep]:
        """A transaction that holds the campaign's lock."""
        begun = self._begun(lambda answer: self.server.begin_waiting(answer, "campaign", LOCK_WAIT_S))
        transaction = await begun
        if transaction is None:
            raise CampaignError(f"Another command on campaign {campaign} is running.")
        async with self._transaction(transaction):
            yield SimStep(self, transaction, await self.read(lambda: self.server.campaign))

    async def _begun(self, begin: Callable[[Answer], None]) -> Any:
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
    async def _transaction(self, transaction: Transaction) -> AsyncIterator[None]:
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

    # ---- queries ----------------------------------------------------------------------------------------------------

    async def campaigns(self) -> list[StoredCampaign]:
        """All campaigns."""
        return [await self.read(lambda: self.server.campaign)]

    async def campaign(self, _campaign: str) -> StoredCampaign:
        """The one campaign."""
        found: StoredCampaign = await self.read(lambda: self.server.campaign)
        return found

    async def document(self, campaign: StoredCampaign) -> Document:
        """Its document."""
        candidates = len(await self.candidates(campaign.number))
        assert campaign.secret is not None
        return document_of(campaign.rules, campaign.version, campaign.state, candidates, campaign.secret)

    async def candidates(self, _campaign: int) -> dict[int, Candidate]:
        """Index -> candidate."""
        return dict(await self.read(lambda: self.server.candidates))

    async def seal(self, _campaign: int) -> Seal | None:
        """The published tally."""
        tallies = await self.read(lambda: self.server.sealed)
        if tallies is None:
            return None
        likes = sum(tally.likes for _rank, tally in tallies.values())
        return Seal(from_ms(0), likes, 0, tallies)

    async def shard_counts(self, _campaign: int) -> dict[int, dict[int, int]]:
        """Shard -> candidate -> likes by the counts."""
        return dict(await self.read(self.server.shard_counts))

    async def recount_counts(self, _campaign: int) -> dict[int, int]:
        """Likes per candidate by the counts."""
        return dict(await self.read(self.server.counted))

    async def recount_ledger(self, _campaign: int) -> dict[int, int]:
        """Likes per candidate by the rows."""
        return dict(await self.read(lambda: self.server.per_candidate(self.server.every_row())))

    async def recount_identities(self, _campaign: int) -> dict[int, int]:
        """Likes per candidate by distinct identities."""
        return dict(await self.read(lambda: self.server.per_candidate(self.server.rows)))

    async def recount_people(self, _campaign: int) -> dict[int, int]:
        """Distinct voters per candidate."""
        return dict(await self.read(self.server.people))

    async def voters_of(self, _campaign: int, day: date) -> AsyncIterator[tuple[bytes, list[int]]]:
        """Each voter of one window with the candidates liked."""
        for voter, candidates in (await self.read(lambda: self.server.voters_of(day))).items():
            yield voter, candidates
