"""A worker that removes likes from the stream before they are committed."""

from __future__ import annotations

from dianzan.ledger.ledger import StoredCampaign
from dianzan.process import faults
from tally_worker.__main__ import main
from tally_worker.flush import NOTHING, Consumer, Flush


async def _run_once(consumer: Consumer, campaign: StoredCampaign, shard: int) -> Flush:
    async with consumer._ledger.locked_shard(campaign.number, shard) as flush:
        if flush is None:
            return NOTHING
        entries, _undecodable = await consumer._read(campaign.id, shard)
        committed = [(entry.entry_id, entry.batch) for entry in entries]
        if not committed:
            return NOTHING
        await consumer._store.remove_entries(campaign.id, shard, committed)
        inserted = await flush.insert(entries)
        faults.hit("flush.before_commit")
    return Flush(inserted, inserted, len(committed), 0, None)


if __name__ == "__main__":
    Consumer.run_once = _run_once  # type: ignore[assignment,method-assign]
    main()
