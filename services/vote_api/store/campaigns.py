"""The published campaigns as this process knows them."""

from __future__ import annotations

from collections.abc import Iterable

from dianzan.domain.campaign import Document
from dianzan.domain.codes import folded
from dianzan.domain.errors import CampaignUnknown, DocumentUnreadable, Unavailable
from dianzan.domain.windows import now_ms
from dianzan.process import logs, metrics
from dianzan.store.documents import Documents

_log = logs.get(__name__)


class KnownCampaigns:
    """While the store is down the last campaigns stay known, so that likes are answered 503 rather than 404."""

    def __init__(self, documents: Documents) -> None:
        self._published = documents
        self._documents: dict[str, Document] = {}
        self.loaded = False
        self._unread: dict[str, int] = {}  # campaign -> the version that was told not to be understood

    def document(self, campaign: str) -> Document:
        """A published campaign. Raises CampaignUnknown, or Unavailable before the first successful read."""
        try:
            return self._documents[campaign]
        except KeyError:
            if (small := folded(campaign)) in self._documents:
                return self._documents[small]
            if not self.loaded:
                raise Unavailable("The campaigns have not been read from the store yet; ask again.") from None
            raise CampaignUnknown(f"No campaign {campaign[:40]!r} is published here.") from None

    def taking_likes(self) -> Iterable[Document]:
        """The campaigns that are not over."""
        return [document for document in self._documents.values() if not document.state.is_over]

    async def read(self) -> None:
        """Read the documents that have another version now. Raises StoreError.

        A campaign that is gone from the list stays known: none is ever taken off it, so the store has lost it, and
        its voters are to ask again (the shards have no gates) rather than to hear that there is no such campaign.
        """
        for campaign, version in (await self._published.versions()).items():
            known = self._documents.get(campaign)
            if known is None or known.version != version:
                await self._read_one(campaign, version)
        self.loaded = True
        at_ms = now_ms()
        for campaign, document in self._documents.items():
            metrics.CAMPAIGN_OPEN.labels(campaign).set(document.open_at(at_ms))

    async def _read_one(self, campaign: str, version: int) -> None:
        try:
            document = await self._published.read(campaign)
        except DocumentUnreadable as error:
            # One campaign's problem: the shards refuse its older rules, and every other campaign goes on.
            if self._unread.get(campaign) != version:
                self._unread[campaign] = version
                _log.warning(
                    "a campaign's document is not understood, and likes by its new rules are refused: is this vote API "
                    "of an older release?",
                    campaign=campaign,
                    version=version,
                    reason=str(error),
                )
            return
        if document is not None:
            self._documents[campaign] = document
            metrics.CAMPAIGN_VERSION.labels(campaign).set(document.version)
