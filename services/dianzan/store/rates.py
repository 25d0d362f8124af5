"""How often a network asks for new voters."""

from __future__ import annotations

from redis.asyncio.client import Pipeline

from dianzan.domain.errors import StoreError, StoreUnavailable
from dianzan.store import keys
from dianzan.store.calls import StoreCalls


class Rates:
    """Raises StoreUnavailable if the store does not answer or refuses: a voter waits for it."""

    def __init__(self, calls: StoreCalls) -> None:
        self._calls = calls

    async def count_minted(self, campaign: str, network: int, minute: int) -> int:
        """Count one more token for a network in a minute and return how many that makes."""
        key = keys.tokens_minted(campaign, network, minute)

        def queue(pipeline: Pipeline) -> None:
            pipeline.incr(key)
            pipeline.expire(key, 120)

        try:
            return int((await self._calls.pipeline(key, queue, transaction=True))[0])
        except StoreError as error:
            raise StoreUnavailable(f"The store did not answer ({error.reason}); ask again.") from error
