"""A vote API whose queue is a thousandth as long, so that a thousandth of the voters fill it. No step is taken out."""

from __future__ import annotations

from dianzan.domain.limits import BALLOTS_QUEUED_MAX
from vote_api.__main__ import main
from vote_api.likes import batcher

QUEUED_MAX = BALLOTS_QUEUED_MAX // 1_000

if __name__ == "__main__":
    setattr(batcher, "BALLOTS_QUEUED_MAX", QUEUED_MAX)  # noqa: B010 a constant
    main()
