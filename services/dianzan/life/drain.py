"""Waits until the workers have emptied the streams of shards that take no more likes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from dianzan.domain.errors import CampaignError
from dianzan.domain.shard import Shard
from dianzan.store.streams import Streams

_LOOK_EVERY_S = 0.1


async def drain(streams: Streams, shards: Sequence[Shard], drain_s_max: float) -> None:
    """Return when these shards' streams are empty. Raises CampaignError after `drain_s_max`.

    The shards take no likes, or this might never end. Raises StoreError if no replica confirms that they are
    empty: a primary that is cut off may be, while the one promoted in its place is not.
    """
    deadline = time.monotonic() + drain_s_max
    while True:
        waiting = await streams.backlog(shards)
        if all(entries == 0 for entries in waiting):  # None: the shard's server does not answer
            waiting = [await streams.waiting(shard) for shard in shards]
            if not any(waiting):
                return
        if time.monotonic() > deadline:
            raise CampaignError(
                f"{sum(entries or 0 for entries in waiting)} batches still wait for the ledger. "
                "Is a tally worker running? "
                "No like is lost; run this again when it is."
            )
        await asyncio.sleep(_LOOK_EVERY_S)
