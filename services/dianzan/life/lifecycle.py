"""The steps in a campaign's life, over ledger and store: create, import candidates, publish, close, seal.

Every step may be interrupted and run again: Postgres is written first, the store after it, and each write is the same
the second time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from dianzan.domain import voters
from dianzan.domain.campaign import Document, Rules, State, next_width, refused_changes
from dianzan.domain.errors import CampaignError
from dianzan.domain.limits import CANDIDATES_MAX
from dianzan.domain.ranking import ranked
from dianzan.ledger.ledger import CampaignStep, Ledger, Seal, StoredCampaign, Tally
from dianzan.life.recount import Recount, recount
from dianzan.process import faults
from dianzan.roster.candidates import Candidate
from dianzan.store.vote_store import VoteStore

_OLDER_COPY: Final = "Postgres has come back as an older copy"
_NAMED_MAX: Final = 10  # candidates in a sentence


class Lifecycle:
    """One method a step. Raises CampaignError with what to do where a step is refused."""

    def __init__(self, store: VoteStore, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger

    async def create(self, rules: Rules) -> bool:
        """Create a draft, or change the rules of a campaign that exists; returns whether it is new.

        A published campaign's changes are in force when this returns; those that would give likes already cast another
        meaning are refused.
        """
        if not await self._ledger.knows_zone(rules.timezone):
            raise CampaignError(f"timezone: Postgres does not know {rules.timezone!r}; write one like Asia/Shanghai.")
        async with self._ledger.step(rules.id) as step:
            if step.stored is None:
                await step.create(rules, voters.new_key())
                return True
            _require_before(step.stored, State.closed)
            before = await self._rules_in_force(step.stored)
            if before is not None:
                refused = refused_changes(before, rules, datetime.now(UTC))
                if refused:
                    raise CampaignError(f"Campaign {rules.id} is published; refused:\n  " + "\n  ".join(refused))
            await step.change_rules(rules)
        await self._publish_changes(step.stored)
        return False

    async def import_candidates(self, campaign: str, candidates: Sequence[Candidate]) -> tuple[int, int]:
        """Add candidates, or correct those whose code exists; returns (added, corrected). None is ever removed.

        In a published campaign they are in force when this returns.
        """
        async with self._ledger.step(campaign) as step:
            stored = require(step, campaign)
            _require_before(stored, State.closed)
            index_of = await step.candidate_codes(stored.number)
            known = len(index_of)
            published = await self._published(stored)
            lacking = _after(published.candidates, list(index_of)) if published else ()
            missing = set(lacking) - {candidate.code for candidate in candidates}
            if missing:
                raise CampaignError(
                    f"{_OLDER_COPY}, and lacks candidates that voters know: {_some(lacking)}. "
                    f"The roster must have them all, but has no {_some(sorted(missing))}."
                )
            # In the store's order first: likes go by the index.
            for code in [*lacking, *(candidate.code for candidate in candidates)]:
                index_of.setdefault(code, len(index_of) + 1)
            if len(index_of) > CANDIDATES_MAX:
                raise CampaignError(f"A campaign has at most {CANDIDATES_MAX} candidates, not {len(index_of)}.")
            next_width(stored.width, len(index_of))
            await step.put_candidates(stored.number, [(index_of[c.code], c) for c in candidates])
            added = len(index_of) - known
        await self._publish_changes(stored)
        return added, len(candidates) - added

    async def publish(self, campaign: str) -> Document:
        """Open the campaign's shards, or bring changed rules and candidates into the store.

        Partitions first, so that no like ever lacks a place in the ledger; then the gates; the document last, so that
        the vote API offers only what the shards take. A store that has lost a campaign's likes is not opened again.
        """
        async with self._ledger.step(campaign) as step:
            stored = await self.met_store(step, campaign)
            _require_before(stored, State.closed)
            codes = await step.candidate_codes(stored.number)
            if not codes:
                raise CampaignError(f"Campaign {campaign} has no candidates: dianzan campaign import-candidates first.")
            # Before anything reads the ledger: two readers that both come to want the whole table would deadlock.
            await step.create_partitions(stored.number, stored.rules.window_dates())
            await step.publish(next_width(stored.width, len(codes)))
        return await self._carry(campaign)

    async def close(self, campaign: str) -> None:
        """Take no more likes, for good. After this returns no like is accepted anywhere.

        A store that has lost a campaign's likes is not closed: an empty shard that is closed cannot be told from one
        that nobody liked in.
        """
        await self._store.load_library()
        async with self._ledger.step(campaign) as step:
            stored = await self.met_store(step, campaign)
            if stored.state is State.draft:
                raise CampaignError(f"Campaign {campaign} was never published: there is nothing to close.")
            if await step.has_likes(stored.number):
                await self._require_gates(stored)
            await self._store.close_gates(campaign, stored.rules.shards)
            faults.hit("close.before_commit")
            await step.close()
        faults.hit("close.after_commit")
        await self._publish_document(campaign)

    async def seal(self, campaign: str, *, drain_s_max: float) -> tuple[Recount, Seal]:
        """Close, drain the streams, compare four ways, publish the final tally. Run again it gives the same result.

        Raises CampaignError where the streams do not empty in `drain_s_max` seconds or the four counts differ; then
        the campaign stays closed and unsealed.
        """
        await self.close(campaign)
        stored = await self.stored(campaign)
        if stored.state is not State.sealed:  # nobody flushes what is sealed
            try:
                await self.drain(stored, range(stored.rules.shards), drain_s_max)
            except CampaignError as error:
                raise CampaignError(f"Not sealed: {error}") from error
        faults.hit("seal.drained")
        async with self._ledger.step(campaign) as step:
            if step.stored is None or step.stored.state is not State.sealed:
                await step.lock_shards(stored.number, range(stored.rules.shards))  # a flush may be in the middle
                counted = await recount(self._store, self._ledger, stored)
                if not counted.equal:
                    raise CampaignError(_not_sealed(campaign, counted))
                tallies = await self._final(stored, counted)
                people = counted.people.get(0, 0)
                await step.seal(stored.number, sum(counted.ledger.values()), people, tallies)
                faults.hit("seal.before_commit")
        faults.hit("seal.after_commit")
        await self._publish_document(campaign)
        seal = await self._ledger.seal(stored.number)
        if seal is None:
            raise CampaignError(f"Campaign {campaign} is not sealed: run dianzan seal again.")
        return await recount(self._store, self._ledger, stored), seal

    async def drain(self, stored: StoredCampaign, shards: Collection[int], drain_s_max: float) -> None:
        """Wait until the workers have emptied these shards' streams. Raises CampaignError after `drain_s_max`.

        The shards take no likes, or this might never end. Raises StoreError where no replica confirms that they are
        empty: a primary that is cut off may be, while the one promoted in its place is not.
        """
        deadline = time.monotonic() + drain_s_max
        while True:
            lengths = await self._store.backlog(stored.id, stored.rules.shards)
            waiting = [lengths[shard] for shard in shards]
            if all(entries == 0 for entries in waiting):  # None: the shard's server does not answer
                waiting = [await self._store.waiting(stored.id, shard) for shard in shards]
                if not any(waiting):
                    return
            if time.monotonic() > deadline:
                raise CampaignError(
                    f"{sum(entries or 0 for entries in waiting)} batches still wait for the ledger. "
                    "Is a tally worker running? "
                    "No like is lost; run this again when it is."
                )
            await asyncio.sleep(0.1)

    async def stored(self, campaign: str) -> StoredCampaign:
        """The campaign's row. Raises CampaignError where there is none."""
        stored = await self._ledger.campaign(campaign)
        if stored is None:
            raise CampaignError(_unknown(campaign))
        return stored

    async def met_store(self, step: CampaignStep, campaign: str) -> StoredCampaign:
        """The campaign a step is about, its version past the store's where Postgres has come back as an older copy.

        Raises CampaignError where the older copy lacks what likes name by position, candidates or publishers: what it
        got in their place later would get their likes.
        """
        stored = require(step, campaign)
        published = await self._published(stored)
        if published is None:
            return stored
        codes = await step.candidate_codes(stored.number)
        if lacking := _after(published.candidates, list(codes)):
            raise CampaignError(
                f"{_OLDER_COPY}, and lacks candidates that voters know: {_some(lacking)}. "
                f"Run dianzan campaign import-candidates {campaign} with a roster that has them, then this again."
            )
        if lacking := _after(published.rules.publishers, stored.rules.publishers):
            raise CampaignError(
                f"{_OLDER_COPY}, and lacks publishers that likes have come by: {_some(lacking)}. "
                "Run dianzan campaign create with the campaign file that has them, then this again."
            )
        later = await step.pass_version(published.version)
        return stored if later is None else replace(stored, version=later)

    async def _published(self, stored: StoredCampaign) -> Document | None:
        """What the store has of a campaign. Raises CampaignError where its key is another: every voter would be new."""
        published = await self._store.document(stored.id)
        if published is not None and stored.secret is not None and stored.secret.hex() != published.secret:
            raise CampaignError(
                f"The store holds a campaign {stored.id} with another key than Postgres: they do not belong together. "
                "Bring back the Postgres that belongs to it, or give the new campaign another id."
            )
        return published

    async def _rules_in_force(self, stored: StoredCampaign) -> Rules | None:
        """The rules that likes have been cast by: the store's where Postgres has an older copy. None in a draft."""
        published = await self._published(stored)
        if published is not None and published.version > stored.version:
            return published.rules
        return stored.rules if stored.state is State.published else None

    async def _publish_changes(self, before: StoredCampaign) -> None:
        if before.state is State.published:
            await self.publish(before.id)

    async def _carry(self, campaign: str) -> Document:
        """Bring what is committed now into the store, under the campaign's lock.

        Of two publications at once each carries the later one's rules, so no shard is left with the earlier one's.
        """
        await self._store.load_library()
        async with self._ledger.step(campaign) as step:
            stored = require(step, campaign)
            _require_before(stored, State.closed)
            has_likes = await step.has_likes(stored.number)
            if has_likes:
                await self._require_gates(stored)
            if await self._store.gates_closed(campaign, stored.rules.shards):
                raise CampaignError(
                    f"A close of campaign {campaign} was interrupted, and what is closed stays closed: "
                    f"run dianzan campaign close {campaign}."
                )
            document = await self._ledger.document(stored)
            await self._store.open_gates(document, first=not has_likes)
            await self._store.publish_document(document)
        return document

    async def _require_gates(self, stored: StoredCampaign) -> None:
        missing = await self._store.gates_missing(stored.id, stored.rules.shards)
        if missing:
            raise CampaignError(
                f"The store has lost {len(missing)} of {stored.rules.shards} shards of campaign {stored.id}, whose "
                f"likes are in the ledger: run dianzan restore {stored.id}, then this again."
            )

    async def _publish_document(self, campaign: str) -> None:
        async with self._ledger.step(campaign) as step:
            await self._store.publish_document(await self._ledger.document(require(step, campaign)))

    async def _final(self, stored: StoredCampaign, counted: Recount) -> dict[int, tuple[int, Tally]]:
        likes = {index: counted.ledger.get(index, 0) for index in await self._ledger.candidates(stored.number)}
        ranks = ranked(likes)
        return {index: (ranks[index], Tally(n, counted.people.get(index, 0))) for index, n in likes.items()}


def _after(known: Sequence[str], ours: Sequence[str]) -> Sequence[str]:
    """What the store knows beyond ours. Raises CampaignError where what both have is not the same, place by place."""
    for place, (theirs, our) in enumerate(zip(known, ours, strict=False), start=1):
        if theirs != our:
            raise CampaignError(
                f"Number {place} is {theirs} in the store and {our} in Postgres, and likes go by the number: "
                "one of them is of another campaign, bring back the right one."
            )
    return known[len(ours) :]


def _some(codes: Sequence[str]) -> str:
    """The codes, or the first of many."""
    return ", ".join(codes[:_NAMED_MAX]) + (f" and {len(codes) - _NAMED_MAX} more" if len(codes) > _NAMED_MAX else "")


def _unknown(campaign: str) -> str:
    return f"There is no campaign {campaign!r}: dianzan campaign list shows them all."


def _not_sealed(campaign: str, counted: Recount) -> str:
    said = f"Not sealed: the four counts of {campaign} differ.\n{counted.differences()}"
    if not counted.store_is_behind:
        return said
    return f"{said}\nThe store holds fewer likes than the ledger: run dianzan restore {campaign}, then this again."


def require(step: CampaignStep, campaign: str) -> StoredCampaign:
    """The campaign a step is about. Raises CampaignError where there is none."""
    if step.stored is None:
        raise CampaignError(_unknown(campaign))
    return step.stored


def _require_before(stored: StoredCampaign, limit: State) -> None:
    if list(State).index(stored.state) >= list(State).index(limit):
        raise CampaignError(f"Campaign {stored.id} is {stored.state}: that is for good.")
