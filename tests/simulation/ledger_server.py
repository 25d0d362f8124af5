"""A simulated Postgres: the ledger, the counts, the campaign's row, transactions with locks, and crashes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from random import Random

import asyncpg

from dianzan.domain.campaign import State
from dianzan.domain.windows import EPOCH, from_ms
from dianzan.ledger.records import Seal, StoredCampaign
from dianzan.roster.candidates import Candidate
from tests.simulation.loop import SimLoop
from tests.simulation.network import Answer

Identity = tuple[int, int, bytes]  # window day, candidate, voter

NOTICES_S = 0.5  # until the server misses a client that has died
GONE = "the connection was closed in the middle of operation"


@dataclass(eq=False)
class Transaction:
    """One connection's open transaction; what it changes is seen by others when it commits."""

    wanted: str = ""  # the lock it was begun with
    over: bool = False
    missed: bool = False  # its client is gone, which the server has yet to notice
    locks: list[str] = field(default_factory=list)
    rows: dict[Identity, int] = field(default_factory=dict)  # liked at, in milliseconds
    counted: Counter[tuple[int, int]] = field(default_factory=Counter)  # shard, candidate
    copies: Counter[Identity] = field(default_factory=Counter)
    changes: list[Callable[[], None]] = field(default_factory=list)


class LedgerServer:
    """One server with a synchronous standby: what is committed stays, unless `come_back_older` is called."""

    def __init__(self, loop: SimLoop, rng: Random, campaign: StoredCampaign, *, broken: Collection[str] = ()) -> None:
        self._loop, self._random = loop, rng.random
        self.campaign = campaign
        self.rows: dict[Identity, int] = {}
        self.copies: Counter[Identity] = Counter()  # rows beyond the first, in a ledger without its unique key
        self.counts: Counter[tuple[int, int]] = Counter()
        self.candidates: dict[int, Candidate] = {}
        self.sealed: Seal | None = None
        self.seals = 0
        self._unique = "no-unique-key" not in broken
        self._counts_rows_read = "counts-by-rows-read" in broken
        self.note: Callable[..., None] = lambda *_told: None
        self.up = True
        self.fuse, self.moment = 0, ""  # commits until it crashes, and when: before or after
        self._open: list[Transaction] = []
        self._committed: list[tuple[float, Transaction]] = []  # oldest first
        self._locked: dict[str, Transaction] = {}
        self._asking: dict[str, list[tuple[Transaction, Answer]]] = {}
        self._inserting: list[tuple[Transaction, Callable[[], None]]] = []

    @property
    def busy(self) -> bool:
        """Whether a transaction holds likes that are not committed."""
        return any(transaction.rows for transaction in self._open)

    @property
    def flushing(self) -> bool:
        """Whether a worker has begun to flush a shard."""
        return any(transaction.wanted.startswith("shard") for transaction in self._open)

    # ---- transactions -----------------------------------------------------------------------------------------------

    def begin(self, transaction: Transaction, wait_s: float | None, answer: Answer) -> None:
        """BEGIN, and take its advisory lock; answers whether it has it, after `wait_s` at most, or at once for None."""
        self._open.append(transaction)
        if transaction.missed:
            self.miss(transaction)
        if wait_s is not None:
            self.take(transaction, transaction.wanted, wait_s, answer)
            return
        free = transaction.wanted not in self._locked
        if free:
            self._lock(transaction, transaction.wanted)
        answer(free)

    def take(self, transaction: Transaction, lock: str, wait_s: float, answer: Answer) -> None:
        """Wait for an advisory lock; answers whether it has it, after `wait_s` at most. It stays open without, too."""
        if lock not in self._locked:
            self._lock(transaction, lock)
            answer(True)
            return
        queue = self._asking.setdefault(lock, [])
        asking = (transaction, answer)
        queue.append(asking)

        def give_up() -> None:
            if asking in queue:
                queue.remove(asking)
                answer(False)

        self._loop.later(wait_s, give_up)

    def insert(self, transaction: Transaction, shard: int, likes: list[tuple[Identity, int]], answer: Answer) -> None:
        """Insert what is new, and count it; waits for transactions that hold the same identities."""
        wanted = {identity for identity, _at in likes}
        if any(other is not transaction and wanted & other.rows.keys() for other in self._open):
            self._inserting.append((transaction, partial(self.insert, transaction, shard, likes, answer)))
            return
        inserted = 0
        for identity, at_ms in likes:
            held = identity in self.rows or identity in transaction.rows
            if not held:
                transaction.rows[identity] = at_ms
            elif not self._unique:
                transaction.copies[identity] += 1
            if not held or not self._unique or self._counts_rows_read:
                inserted += 1
                transaction.counted[shard, identity[1]] += 1
        answer(inserted)

    def commit(self, transaction: Transaction, answer: Answer) -> None:
        """COMMIT; the server may die at this moment, before or after it."""
        dies = bool(self.fuse) and transaction.rows != {}
        if dies:
            self.fuse -= 1
            dies = not self.fuse
        if not dies or self.moment == "after":
            self._commit(transaction)
        if dies:
            self.crash()
            answer(asyncpg.ConnectionDoesNotExistError(GONE))
        else:
            answer(None)

    def roll_back(self, transaction: Transaction, answer: Answer) -> None:
        """ROLLBACK."""
        self._end(transaction)
        answer(None)

    def miss(self, transaction: Transaction) -> None:
        """Its client is gone: the server ends it, a little later. One that is over, or has not begun, stays so."""
        transaction.missed = True
        self._loop.later(NOTICES_S * self._random() ** 3 + 0.002, self._end, transaction)

    def _commit(self, transaction: Transaction) -> None:
        self.note("ledger", "commit", len(transaction.rows), *transaction.locks)
        self.rows.update(transaction.rows)
        self.copies.update(transaction.copies)
        self.counts.update(transaction.counted)
        for change in transaction.changes:
            change()
        self._committed.append((self._loop.time(), transaction))
        self._end(transaction)

    def _end(self, transaction: Transaction) -> None:
        if transaction not in self._open:
            return
        transaction.over = True
        self._open.remove(transaction)
        for lock in transaction.locks:
            del self._locked[lock]
            self._hand_on(lock)
        waiting, self._inserting = self._inserting, []
        for asking, insert in waiting:
            if not asking.over:
                insert()

    def _hand_on(self, lock: str) -> None:
        """Give a free lock to the first transaction that still waits for it."""
        queue = self._asking.get(lock, [])
        while queue:
            following, answer = queue.pop(0)
            if not following.over:
                self._lock(following, lock)
                answer(True)
                return

    def _lock(self, transaction: Transaction, lock: str) -> None:
        self._locked[lock] = transaction
        transaction.locks.append(lock)

    def crash(self) -> None:
        """Every open transaction is gone; what was committed stays."""
        self.note("ledger", "crash", len(self._open))
        self.up, self.fuse = False, 0
        for transaction in self._open:
            transaction.over = True
        self._open.clear()
        self._locked.clear()
        self._asking.clear()
        self._inserting.clear()

    def come_back_older(self, since_s: float) -> None:
        """Lose its machine; who takes its place lacks every like that was committed since then."""
        self.note("ledger", "older", since_s)
        self.crash()
        while self._committed and self._committed[-1][0] > since_s:
            _at_s, transaction = self._committed.pop()
            for identity in transaction.rows:
                del self.rows[identity]
            self.copies -= transaction.copies
            self.counts -= transaction.counted

    # ---- the campaign's row -----------------------------------------------------------------------------------------

    def pass_version(self, version: int) -> None:
        """Past a later version."""
        if self.campaign.version < version:
            self.campaign = replace(self.campaign, version=version + 1)

    def set_closed(self) -> None:
        """published -> closed."""
        if self.campaign.state is State.published:
            self.campaign = replace(self.campaign, state=State.closed, version=self.campaign.version + 1)

    def now(self) -> datetime:
        """The server's clock."""
        return from_ms(self._loop.now_ms())

    def set_sealed(self, seal: Seal) -> None:
        """The final tally, and -> sealed."""
        self.seals += 1
        self.sealed = seal
        self.campaign = replace(self.campaign, state=State.sealed, version=self.campaign.version + 1)

    # ---- what is read -----------------------------------------------------------------------------------------------

    def recount(self, query: str) -> dict[int, int]:
        """What a query of production's counts per candidate."""
        by_query = {
            "recount_counts": self.by_counts,
            "recount_ledger": self.by_rows,
            "recount_identities": lambda: _per_candidate(self.rows),
            "recount_people": self.people,
        }
        return by_query[query]()

    def by_counts(self) -> dict[int, int]:
        """Likes per candidate by the counts."""
        found: Counter[int] = Counter()
        for (_shard, candidate), likes in self.counts.items():
            found[candidate] += likes
        return dict(found)

    def by_rows(self) -> dict[int, int]:
        """Likes per candidate by the rows, of which a ledger without its key may hold one twice."""
        return _per_candidate([*self.rows, *self.copies.elements()])

    def shard_counts(self) -> dict[int, dict[int, int]]:
        """Shard -> candidate -> likes by the counts."""
        found: dict[int, dict[int, int]] = {}
        for (shard, candidate), likes in self.counts.items():
            found.setdefault(shard, {})[candidate] = likes
        return found

    def counts_in(self, transaction: Transaction, shard: int) -> dict[int, int]:
        """Likes per candidate of a shard, as a transaction sees them."""
        seen = self.counts + transaction.counted
        return {candidate: likes for (of, candidate), likes in seen.items() if of == shard}

    def people(self) -> dict[int, int]:
        """Distinct voters per candidate; 0 is the campaign."""
        found: dict[int, set[bytes]] = {0: set()}
        for _day, candidate, voter in self.rows:
            found[0].add(voter)
            found.setdefault(candidate, set()).add(voter)
        return {candidate: len(voters) for candidate, voters in found.items()}

    def voters_of(self, day: date) -> dict[bytes, list[int]]:
        """Each voter of a window with the candidates liked, in order."""
        wanted = (day - EPOCH) // timedelta(days=1)
        found: dict[bytes, list[tuple[int, int]]] = {}
        for (window_day, candidate, voter), at_ms in self.rows.items():
            if window_day == wanted:
                found.setdefault(voter, []).append((at_ms, candidate))
        return {voter: [candidate for _at, candidate in sorted(liked)] for voter, liked in sorted(found.items())}


def _per_candidate(likes: Iterable[Identity]) -> dict[int, int]:
    return dict(Counter(candidate for _day, candidate, _voter in likes))
