"""What a seed draws before its history begins: the campaign, the processes, and which faults may happen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from dianzan.domain.campaign import Document, Rules, State
from dianzan.domain.shard import Shard
from dianzan.ledger.records import StoredCampaign
from dianzan.roster.candidates import Candidate
from dianzan.store import keys
from dianzan.store.gates import pack_gate
from tests.simulation.ledger_client import document_of
from tests.simulation.store_data import Record

CAMPAIGN = "vote"
SECRET = bytes(range(32))
NUMBER = 1
EVENING_MS = 1_772_366_400_000  # 2026-03-01 20:00 in Shanghai
MIDNIGHT_MS = 1_772_380_800_000  # four hours later a new window begins
FAULTS = ("kill", "sigterm", "cut", "lossy", "slow", "store", "ledger", "failover", "clock")


LAG_S_MAX = 1.0  # of the ledger that comes back older
CLOCKS_APART_S_MAX = 18.0  # of two store servers: what one kept may look so much older to the other


@dataclass(frozen=True, slots=True)
class Plan:
    """One history's frame."""

    shards: int
    quota: int
    candidates: int
    voters: int
    attempts: int  # of one voter
    apis: int
    workers: int
    places: int
    replicated: bool
    waitaof: bool
    epoch_ms: int
    fault_s: float
    faults: tuple[str, ...]
    fault_every_s: float
    seal: str  # "", "after" the faults or "during" them
    loses_store: bool
    keep_s: float  # for which the store keeps what is committed
    ledger_older: bool  # the ledger comes back without the likes of the last moments, which the store has kept

    @property
    def rules(self) -> Rules:
        """The campaign's rules."""
        return _rules(self.shards, self.quota)

    @property
    def document(self) -> Document:
        """The campaign's document at the beginning."""
        return document_of(self.rules, 1, State.published, self.candidates, SECRET)

    @property
    def stored(self) -> StoredCampaign:
        """The campaign's row at the beginning."""
        return StoredCampaign(NUMBER, self.rules, 1, State.published, 1, SECRET, None)

    @property
    def roster(self) -> dict[int, Candidate]:
        """Index -> candidate."""
        return {n: Candidate(f"c{n}", f"n{n}", "person", "", "", "", "", "") for n in range(1, self.candidates + 1)}

    def records(self) -> list[list[Record]]:
        """Per place what its servers hold after `publish`."""
        gates = [keys.gate(Shard(CAMPAIGN, shard)).encode() for shard in range(self.shards)]
        begin: list[list[Record]] = [[] for _ in range(self.places)]
        for shard, gate in enumerate(gates):
            begin[shard % self.places].append((("SET", gate, pack_gate(self.document)),))
        body = _json(self.document)
        begin[0].append((("SET", keys.document(CAMPAIGN).encode(), body),))
        begin[0].append((("HSET", keys.CAMPAIGNS.encode(), CAMPAIGN.encode(), b"1"),))
        return begin


@cache
def _rules(shards: int, quota: int) -> Rules:
    raw = {"id": CAMPAIGN, "title": "t", "opens": "2026-02-28", "closes": "2026-03-05"}
    return Rules.model_validate({**raw, "shards": shards, "likes_per_window": quota, "expected_voters": 300})


_bodies: dict[int, bytes] = {}


def _json(document: Document) -> bytes:
    if id(document) not in _bodies:  # documents are cached, so their ids stay
        _bodies[id(document)] = document.model_dump_json().encode()
    return _bodies[id(document)]


def draw(rng: Random, *, replicated: bool = False) -> Plan:
    """A plan; `replicated`: surely with replicas, else perhaps."""
    replicated = (rng.random() < 0.5) or replicated
    shards = rng.randint(1, 3)
    wanted = [fault for fault in FAULTS if rng.random() < 0.6]
    seal = rng.choice(["", "after", "during"])
    loses_store, keeps = rng.random() < 0.15, rng.random() < 0.4
    return Plan(
        shards=shards,
        quota=rng.randint(1, 3),
        candidates=rng.randint(2, 4),
        voters=rng.randint(2, 4),
        attempts=rng.randint(2, 6),
        apis=rng.randint(1, 2),
        workers=rng.randint(1, 2),
        places=min(shards, 2) if rng.random() < 0.3 else 1,
        replicated=replicated,
        waitaof=rng.random() < 0.8,
        epoch_ms=MIDNIGHT_MS - rng.randint(500, 4_000) if rng.random() < 0.2 else EVENING_MS,
        fault_s=rng.uniform(0.8, 3.5),
        faults=tuple(wanted),
        fault_every_s=rng.choice([0.1, 0.3, 0.6]),
        seal=seal,
        loses_store=loses_store,
        keep_s=keeps * (LAG_S_MAX + ("clock" in wanted) * CLOCKS_APART_S_MAX),
        ledger_older=keeps and not loses_store and seal != "during" and rng.random() < 0.6,
    )
