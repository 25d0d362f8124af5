"""A worker on a ledger without its unique key: it inserts whatever it reads."""

from __future__ import annotations

from dianzan.ledger.queries import queries
from tally_worker.__main__ import main

ONCE = "ON CONFLICT (campaign, window_day, candidate, voter) DO NOTHING"

if __name__ == "__main__":
    texts = queries()
    assert ONCE in texts["insert_staged"], "the flush no longer says how a like is inserted once"
    texts["insert_staged"] = texts["insert_staged"].replace(ONCE, "")
    main()
