"""What a roster file would change in the roster that is there: a column that the file lacks is left alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile

from dianzan.domain.shown_text import QUOTED_CHARS_MAX, quoted
from dianzan.roster.candidates import Candidate

FIELDS = ("name", "kind", "district", "category", "summary", "story", "photo")
_SHARED_CHARS = 10  # shown of what two long texts share, so that the place is found


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one candidate; `before` is empty for a candidate who is new."""

    code: str
    field: str
    before: str
    after: str

    def __str__(self) -> str:
        """On one line; of long texts the place where they begin to differ."""
        pairs = zip(self.before, self.after, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        skipped = max(0, shared - _SHARED_CHARS) if max(len(self.before), len(self.after)) > QUOTED_CHARS_MAX else 0
        return f"{self.code} {self.field}: {_shown(self.before, skipped)} → {_shown(self.after, skipped)}"


def corrected(known: Candidate | None, wanted: Candidate, columns: Collection[str]) -> Candidate:
    """The candidate as the file leaves it: `wanted` in the file's columns, as known in all others."""
    if known is None:
        return wanted
    return replace(known, **{name: getattr(wanted, name) for name in FIELDS if name in columns})


def changes(known: Mapping[str, Candidate], wanted: Iterable[Candidate]) -> list[Change]:
    """Every field that differs, candidate by candidate; of one who is new, every field that is not empty."""
    found = []
    for after in wanted:
        before = known.get(after.code)
        for field in FIELDS:
            old, new = getattr(before, field) if before else "", getattr(after, field)
            if old != new:
                found.append(Change(after.code, field, old, new))
    return found


def _shown(text: str, skipped: int) -> str:
    return ("…" if skipped else "") + quoted(text[skipped:]) if text else "(empty)"
