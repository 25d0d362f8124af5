"""What the vote API knows of the store: the published campaigns, and whether the store keeps the promise."""

from __future__ import annotations

import asyncio
import time

from redis.exceptions import RedisError

from dianzan import logs, metrics
from dianzan.campaign import Document
from dianzan.errors import CampaignUnknown, StoreError, StoreUnsafe, Unavailable
from dianzan.vote_store import VoteStore

_log = logs.get(__name__)

CAMPAIGNS_EVERY_S = 1.0
PROMISE_EVERY_S = 10.0


class StoreWatch:
    """Refreshes campaigns every second and the check of the promise every ten.

    While the store is down the last campaigns go on being known, so that likes are answered 503 rather than 404; the
    promise is checked again as soon as the store is back, since it may have come back with other settings.
    """

    def __init__(self, store: VoteStore, *, allow_weak_store: bool) -> None:
        self._store = store
        self._allow_weak_store = allow_weak_store
        self._documents: dict[str, Document] = {}
        self._loaded = False
        self._answering = False
        self._checked_at = 0.0
        self._refreshing = asyncio.Lock()
        self._began_s = 0.0
        self.broken: list[str] = ["the store has not been checked yet"]

    @property
    def waived(self) -> bool:
        """Whether likes are taken although the promise is broken."""
        return bool(self.broken) and self._allow_weak_store and self._loaded and self._answering

    @property
    def ready(self) -> bool:
        """Whether likes can be taken now."""
        return self._loaded and self._answering and (not self.broken or self._allow_weak_store)

    def document(self, campaign: str) -> Document:
        """A published campaign. Raises CampaignUnknown, or Unavailable before the first successful read."""
        try:
            return self._documents[campaign]
        except KeyError:
            if not self._loaded:
                raise Unavailable("The campaigns have not been read from the store yet; ask again.") from None
            raise CampaignUnknown(f"No campaign {campaign[:40]!r} is published here.") from None

    def require_promise(self) -> None:
        """Raise StoreUnsafe unless the store keeps the promise or that is waived."""
        if not self.ready:
            raise StoreUnsafe("The store does not keep the promise now, so nothing is counted; ask again.")

    async def run(self) -> None:
        """Refresh for ever; a store that is down is logged once a change, and tried again."""
        while True:
            await self.refresh()
            await asyncio.sleep(CAMPAIGNS_EVERY_S)

    async def refresh(self) -> None:
        """Read what changed. Never raises for a store that is down: the old knowledge stays and the promise is open.

        When rules change, every request of a batch asks at once: all that ask before a read begins share that read.
        """
        asked_s = time.monotonic()
        async with self._refreshing:
            if self._began_s < asked_s:
                self._began_s = time.monotonic()
                await self._read()

    async def recheck(self) -> None:
        """Check the promise now: a connection that opens may lead to a server that came back with other settings.

        Raises StoreUnsafe where it is broken and not waived, redis.RedisError where the store is down.
        """
        await self._check_promise()
        self.require_promise()

    async def _read(self) -> None:
        try:
            if time.monotonic() - self._checked_at >= PROMISE_EVERY_S or not self.ready:
                await self._check_promise()
            await self._read_documents()
        except (RedisError, OSError, TimeoutError) as error:
            self._answering = False
            self._note([f"the store does not answer: {type(error).__name__}"])
            self._checked_at = 0.0

    async def _check_promise(self) -> None:
        self._note(await self._store.broken_promises())
        self._answering = True
        self._checked_at = time.monotonic()

    def _note(self, broken: list[str]) -> None:
        if broken != self.broken:
            _log.warning("the store's promise changed", broken=broken, waived=self._allow_weak_store)
        self.broken = broken
        metrics.STORE_SAFE.set(not broken)

    async def _read_documents(self) -> None:
        versions = await self._store.versions()
        for campaign in self._documents.keys() - versions.keys():
            del self._documents[campaign]
        for campaign, version in versions.items():
            known = self._documents.get(campaign)
            if known is None or known.version != version:
                await self._read_document(campaign)
        self._loaded = True

    async def _read_document(self, campaign: str) -> None:
        try:
            document = await self._store.document(campaign)
        except StoreError as error:
            # One campaign's problem: the shards refuse its older rules, and every other campaign goes on.
            _log.warning("a campaign's document is not understood; the last one stays", reason=str(error))
            return
        if document is not None:
            self._documents[campaign] = document
            metrics.CAMPAIGN_VERSION.labels(campaign).set(document.version)
