"""What a text must be that people type and others are shown: something is to be seen, and nothing hidden acts on it."""

from __future__ import annotations

import unicodedata
from typing import Final

QUOTED_CHARS_MAX: Final = 40  # of a bad value repeated in a message

# Line breaks and tabs belong into long texts, and nowhere else.
_LINE_BREAKS: Final = frozenset("\n\r\t\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029")
_IN_LONG_TEXTS: Final = frozenset("\n\t")
# Direction marks that make a name display as another one.
_BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# They join letters of several scripts and parts of one picture: a name may need them.
_JOINERS: Final = frozenset("\u200c\u200d")
_SELECTORS: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))
LOST: Final = "\ufffd"  # what a program writes for a character that it cannot keep
_KEYCAP: Final = "\u20e3"
_FLAG: Final = "\U0001f3f4"  # which letters of tags follow, to name a part of a country
MARKS_MAX: Final = 4
_SUBDIVISION_FLAGS: Final = range(0xE0020, 0xE0080)
_UNSEEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Mn", "Me", "Zl", "Zp", "Zs"})
# Letters and signs by their category, and blank in every font.
_BLANK_LETTERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")


def fault_of(text: str, *, long: bool = False) -> str | None:
    """What is wrong with a text that is shown, and what to do about it; None if nothing is.

    A `long` text may have line breaks and tabs. An empty text is for the caller to judge.
    """
    is_seen = any(map(is_visible, text))
    marks = 0
    for place, char in enumerate(text):
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        if marks > MARKS_MAX:
            return f"has more than {MARKS_MAX} marks on one letter; type the text again without them"
        if char == LOST:
            return f"has the sign {LOST} for a character that was lost before; type the text again"
        if char in _LINE_BREAKS and not (long and char in _IN_LONG_TEXTS):
            return f"has a line break or a tab (U+{ord(char):04X}); write it on one line"
        if _is_hidden(char, long=long) or (is_seen and not long and _acts_unseen(text, place)):
            return f"has the invisible character U+{ord(char):04X}; type the text again without it"
    return None if is_seen or not text else "has no character that can be seen; type it again"


def _acts_unseen(text: str, place: int) -> bool:
    """Whether a character of a short text shows nothing there, so that two names look alike."""
    char, before = text[place], text[place - 1] if place else ""
    if char == "\u034f" or char in _BLANK_LETTERS:
        return True
    if char in _SELECTORS and text[place + 1 : place + 2] == _KEYCAP:
        return False  # 1️⃣ is a digit, a selector and a frame
    if char in _JOINERS or char in _SELECTORS:
        # Between the parts of a picture, and in scripts that join their letters; Chinese and Latin do not.
        return not before or before.isascii() or unicodedata.name(before, "").startswith(("CJK", "LATIN", "HANGUL"))
    return ord(char) in _SUBDIVISION_FLAGS and _FLAG not in text[:place]


def is_visible(char: str) -> bool:
    """Whether anything of a character is seen, standing alone."""
    return unicodedata.category(char) not in _UNSEEN_CATEGORIES and char not in _BLANK_LETTERS


def _is_hidden(char: str, *, long: bool) -> bool:
    category = unicodedata.category(char)
    if char in _BIDI_CONTROLS or category == "Cs" or (category == "Cc" and char not in _IN_LONG_TEXTS):
        return True
    # In a short text they make two names look alike; long ones are copied from web pages, which are full of them.
    return category == "Cf" and not long and char not in _JOINERS and ord(char) not in _SUBDIVISION_FLAGS


def _is_plain(char: str) -> bool:
    return char not in _LINE_BREAKS and not _is_hidden(char, long=True)


def quoted(text: str) -> str:
    """A value for a message: short, and with nothing that could steer a terminal."""
    return repr(text if len(text) <= QUOTED_CHARS_MAX else text[:QUOTED_CHARS_MAX] + "…")


def harmless(text: str) -> str:
    """A stored text for one line of a terminal: what would act there or break the line is written as an escape."""
    return "".join(char if _is_plain(char) else ascii(char)[1:-1] for char in text)
