"""A worker that removes likes from the stream before they are committed."""

from __future__ import annotations

from collections.abc import Sequence

from dianzan.domain.shard import Shard
from dianzan.domain.wire import Entry
from dianzan.ledger.flush import ShardFlush
from tally_worker.__main__ import main
from tally_worker.flush import Consumer

_usual = Consumer.insert


async def _insert_and_remove(consumer: Consumer, flush: ShardFlush, shard: Shard, entries: Sequence[Entry]) -> int:
    inserted = await _usual(consumer, flush, shard, entries)
    await consumer.remove(shard, entries)
    return inserted


if __name__ == "__main__":
    Consumer.insert = _insert_and_remove  # type: ignore[assignment,method-assign]
    main()
