"""A worker that removes likes from the stream before they are committed."""

from __future__ import annotations

from dianzan.domain.shard import Shard
from dianzan.ledger.records import StoredCampaign
from dianzan.process import faults
from tally_worker.__main__ import main
from tally_worker.flush import NOTHING, Consumer, Flush


async def _run_once(consumer: Consumer, campaign: StoredCampaign, shard: Shard) -> Flush:
    async with consumer._ledger.likes.locked_shard(campaign, shard) as flush:
        if flush is None:
            return NOTHING
        entries, _undecodable = await consumer._read(shard)
        committed = [(entry.entry_id, entry.batch) for entry in entries]
        if not committed:
            return NOTHING
        await consumer._store.streams.remove(shard, committed)
        inserted = await flush.insert(entries)
        faults.hit("flush.before_commit")
    return Flush(inserted, inserted, len(committed), 0, None)


if __name__ == "__main__":
    Consumer.run_once = _run_once  # type: ignore[assignment,method-assign]
    main()
