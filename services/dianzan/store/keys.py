"""Every key in the store, built here and nowhere else; what `parse` does not know has leaked."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from dianzan.domain.campaign import CAMPAIGN_ID
from dianzan.domain.shard import Shard

# Hash: campaign id -> version of its document.
CAMPAIGNS: Final = "dianzan:campaigns"


def document(campaign: str) -> str:
    """String: the published document of a campaign as JSON."""
    return f"dianzan:campaign:{campaign}"


def tokens_minted(campaign: str, network: int, minute: int) -> str:
    """String: voter tokens given to one network tag in one Unix minute; expires after two."""
    return f"dianzan:minted:{campaign}:{network}:{minute}"


@lru_cache(maxsize=4_096)
def tag(shard: Shard) -> str:
    """The hash tag all keys of a shard share, so that a shard lives in one cluster slot."""
    return f"{{{shard.campaign}:{shard.number}}}"


def gate(shard: Shard) -> str:
    """String: the rules the shard counts by while open, or `closed`; missing means refuse."""
    return f"{tag(shard)}:gate"


def counts(shard: Shard) -> str:
    """Hash: candidate index -> likes ever counted by the shard."""
    return f"{tag(shard)}:counts"


def stream(shard: Shard) -> str:
    """Stream: one entry a batch, until its likes are committed to the ledger."""
    return f"{tag(shard)}:stream"


def kept(shard: Shard) -> str:
    """Stream: entries whose likes are committed, kept a while for a ledger that may come back older."""
    return f"{tag(shard)}:kept"


def agreed(shard: Shard) -> str:
    """String: the life of the server in which a comparison last found the shard equal to the ledger."""
    return f"{tag(shard)}:agreed"


def touch(key: str) -> str:
    """Number in the slot of `key`: written where a replica must confirm what may have written nothing else."""
    beside = key[: key.index("}") + 1] if key.startswith("{") else f"{{{key}}}"
    return f"{beside}:touch"


def marks_prefix(shard: Shard, window_day: int) -> str:
    """What `marks` begins with; the server function appends the bucket."""
    return f"{tag(shard)}:m:{window_day}:"


def marks(shard: Shard, window_day: int, bucket: int) -> str:
    """Hash: 6 bytes of a voter's hash -> the candidate indexes that voter liked in the window."""
    return f"{marks_prefix(shard, window_day)}{bucket}"


def people(shard: Shard, candidate: int) -> str:
    """HyperLogLog of the voters of one candidate (index 0: of any candidate)."""
    return f"{tag(shard)}:p:{candidate}"


# Digits are ASCII, as the builders write them.
_PATTERNS: Final = {
    "campaigns": re.compile(re.escape(CAMPAIGNS)),
    "document": re.compile(rf"dianzan:campaign:{CAMPAIGN_ID}"),
    "tokens_minted": re.compile(rf"dianzan:minted:{CAMPAIGN_ID}:-?[0-9]+:[0-9]+"),
    "gate": re.compile(rf"\{{{CAMPAIGN_ID}:[0-9]+\}}:gate"),
    "counts": re.compile(rf"\{{{CAMPAIGN_ID}:[0-9]+\}}:counts"),
    "stream": re.compile(rf"\{{{CAMPAIGN_ID}:[0-9]+\}}:stream"),
    "kept": re.compile(rf"\{{{CAMPAIGN_ID}:[0-9]+\}}:kept"),
    "agreed": re.compile(rf"\{{{CAMPAIGN_ID}:[0-9]+\}}:agreed"),
    "touch": re.compile(rf"\{{({CAMPAIGN_ID}:[0-9]+|{CAMPAIGNS}|dianzan:campaign:{CAMPAIGN_ID})\}}:touch"),
    "marks": re.compile(rf"\{{{CAMPAIGN_ID}:[0-9]+\}}:m:[0-9]+:[0-9]+"),
    "people": re.compile(rf"\{{{CAMPAIGN_ID}:[0-9]+\}}:p:[0-9]+"),
}


def parse(key: str) -> str | None:
    """The name of the key's kind, or None for a key this project does not own."""
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(key)), None)
