"""The published documents of campaigns, and the list of their versions that the vote API watches."""

from __future__ import annotations

from pydantic import ValidationError

from dianzan.domain.campaign import Document
from dianzan.domain.errors import DocumentUnreadable
from dianzan.store import keys
from dianzan.store.calls import StoreCalls


class Documents:
    """Raises StoreError if the store refuses, StoreAway if it does not answer."""

    def __init__(self, calls: StoreCalls) -> None:
        self._calls = calls

    async def publish(self, document: Document) -> None:
        """Store a campaign's document, then name its version in the list.

        Raises StoreError if the store has a later one.
        """
        campaign, version = document.rules.id, str(document.version)
        await self._calls.confirmed("document_v1", keys.document(campaign), version, document.model_dump_json())
        await self._calls.confirmed("announce_v1", keys.CAMPAIGNS, campaign, version)

    async def versions(self) -> dict[str, int]:
        """Campaign id -> version of its published document."""
        versions = await self._calls.one(keys.CAMPAIGNS, lambda client: client.hgetall(keys.CAMPAIGNS))
        return {campaign.decode(): int(version) for campaign, version in versions.items()}

    async def read(self, campaign: str) -> Document | None:
        """The published document, None if there is none. Raises DocumentUnreadable."""
        key = keys.document(campaign)
        body = await self._calls.one(key, lambda client: client.get(key))
        try:
            return Document.model_validate_json(body) if body else None
        except ValidationError as error:
            # Where and why, without what stands there: the campaign's key is in it.
            wrong = "; ".join(f"{'.'.join(map(str, at['loc'])) or 'all'}: {at['msg']}" for at in error.errors()[:3])
            raise DocumentUnreadable(f"The document of campaign {campaign} cannot be read ({wrong}).") from error
