"""A shard: the part of a campaign's voters that one place in the store, and one flush, is about."""

from __future__ import annotations

from typing import NamedTuple


class Shard(NamedTuple):
    """One shard of a campaign, by the campaign's id and the shard's number from 0 on."""

    campaign: str
    number: int

    def __str__(self) -> str:
        return f"shard {self.number} of campaign {self.campaign}"
