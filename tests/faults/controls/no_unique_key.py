"""A worker on a ledger without its unique key: it inserts whatever it reads."""

from __future__ import annotations

import re

from dianzan.ledger.queries import queries
from tally_worker.__main__ import main

if __name__ == "__main__":
    found = queries()
    found["flush"] = re.sub(r"ON CONFLICT \(campaign, window_day, candidate, voter\) DO NOTHING", "", found["flush"])
    main()
