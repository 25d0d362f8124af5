"""A verdict: equalities with their two sides, and what differs, also beneath equal sums."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

DETAILS_MAX = 10  # differing identities or candidates shown of one check

Key = TypeVar("Key")


@dataclass(frozen=True)
class Check:
    """One equality: its two sides, and one sentence for each thing that differs."""

    name: str
    expected: int
    found: int
    differing: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        """Whether both sides are the same and nothing differs beneath equal sums."""
        return self.expected == self.found and not self.differing


@dataclass(frozen=True)
class Verdict:
    """All checks of a run."""

    checks: Sequence[Check]

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    def differences(self) -> Iterator[tuple[Check, list[str]]]:
        """The checks that do not hold, each with the first of what differs and how much more there is."""
        for check in self.checks:
            if not check.holds:
                more = len(check.differing) - DETAILS_MAX
                yield check, [*check.differing[:DETAILS_MAX], *([f"and {more:,} more"] if more > 0 else [])]

    def show(self) -> None:
        """Print every equality, under each that does not hold what differs, and the word that sums it up."""
        details = {check.name: lines for check, lines in self.differences()}
        for check in self.checks:
            mark = "ok  " if check.holds else "FAIL"
            print(f"  {mark} {check.name:<58}{check.expected:>14,}{check.found:>14,}")
            for line in details.get(check.name, []):
                print(f"         {line}")
        print("no difference" if self.holds else "DIFFERENT")


def none(name: str, found: Sequence[str]) -> Check:
    """There is none of these."""
    return Check(name, 0, len(found), found)


def same(
    name: str, expected: Mapping[Key, int], found: Mapping[Key, int], described: Callable[[Key], Any] = str
) -> Check:
    """The same number under every key; a key that is missing counts as 0."""
    keys = [key for key in {**expected, **found} if expected.get(key, 0) != found.get(key, 0)]
    differing = [f"{described(key)}: expected {expected.get(key, 0):,}, found {found.get(key, 0):,}" for key in keys]
    return Check(name, sum(expected.values()), sum(found.values()), sorted(differing))
