"""One rule for codes, and for ids in commands: people may type them in any case, and they are small letters."""

from __future__ import annotations


def folded(code: str) -> str:
    """The code as it is stored and answered: `C01` is `c01`."""
    return code.lower()
