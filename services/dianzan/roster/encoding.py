"""Owns the encoding of a roster in text: what can be read in two ways is read as the Chinese one, or refused."""

from __future__ import annotations

import codecs
import re
import unicodedata

from dianzan.domain.shown_text import quoted
from dianzan.roster.rows import SAVE_AS, RefusedError

_HAN = "\u3007\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_ANY_HAN = re.compile(f"[{_HAN}]")
_OTHER_LETTER = re.compile(rf"[^\W\d_A-Za-z{_HAN}]")
_HAN_IN_A_WORD = re.compile(f"[A-Za-z][{_HAN}]|[{_HAN}][A-Za-z]")


def decode(data: bytes) -> str:
    """The text of a file in UTF-8, GB18030, or UTF-16 with its mark. RefusedError if it is none, or may be two."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _in(data, "utf-16", "UTF-16, as its first bytes say")
    if data.startswith(codecs.BOM_UTF8):
        return _in(data, "utf-8-sig", "UTF-8, as its first bytes say")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _in(data, "gb18030", "UTF-8 or GB18030 (GBK)")
    return text if text.isascii() or _ANY_HAN.search(text) else _one_of_two(text, data)


def _in(data: bytes, encoding: str, tried: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RefusedError(
            f"it is neither a workbook nor text in {tried}: line {line} cannot be read; {SAVE_AS}"
        ) from error


def _one_of_two(text: str, data: bytes) -> str:
    """UTF-8 without one Chinese character: as 谢伟 in GBK reads, of a Cyrillic and a Greek letter."""
    try:
        chinese = data.decode("gb18030")
    except UnicodeDecodeError:
        return text
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in _OTHER_LETTER.findall(text)}
    is_chinese = _is_plain_chinese(chinese)
    if is_chinese and scripts:
        return chinese
    if not is_chinese and len(scripts) <= 1:
        return text
    number, line = next((n, line) for n, line in enumerate(text.split("\n")) if not line.isascii())
    raise RefusedError(
        f"it may be UTF-8 or GBK: line {number + 1} is {quoted(line.strip())} in the one, "
        f"{quoted(chinese.split(chr(10))[number].strip())} in the other; {SAVE_AS}, which says what it is"
    )


def _is_plain_chinese(text: str) -> bool:
    """Whether all letters beyond ASCII are common Chinese characters, none of them inside an English word."""
    if not _ANY_HAN.search(text) or _OTHER_LETTER.search(text) or _HAN_IN_A_WORD.search(text):
        return False
    try:
        text.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True
