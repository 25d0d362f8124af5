"""Owns how a name is found by whoever types Latin letters: its pinyin, and the initials."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice, product

from pypinyin import Style, pinyin

PERSON_CHARACTERS_MAX = 4  # 单 and 曾 are read in another way as a surname; a team's name is read in one way
READINGS_MAX = 8


@lru_cache(maxsize=20_000)
def spelled(name: str) -> str:
    """The spellings of a name, apart by blanks; none where it holds no Han character, or one without a reading.

    >>> spelled("曾毅")
    'cengyi cy zengyi zy'
    """
    letters = "".join(filter(str.isalnum, name)).lower()
    several = len(letters) <= PERSON_CHARACTERS_MAX
    syllables = pinyin(letters, style=Style.NORMAL, heteronym=several)
    readings = list(islice(product(*syllables), READINGS_MAX))
    found = [each for reading in readings for each in ("".join(reading), "".join(part[0] for part in reading))]
    return " ".join(dict.fromkeys(found)) if found[0].isascii() and not letters.isascii() else ""
