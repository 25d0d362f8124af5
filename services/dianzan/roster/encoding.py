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
_HAN_BETWEEN_LETTERS = re.compile(f"[A-Za-z][{_HAN}]+[a-z]")  # as Mu駉z, which is Muñoz of Western Europe
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
        _refuse_mixture(data)
        return _plausible(_in(data, "gb18030", "UTF-8 or GB18030 (GBK)"))
    if text.isascii():
        return text
    if not _ANY_HAN.search(text):
        return _one_of_two(text, data)
    for number, line in enumerate(text.split("\n"), 1):
        if len(_scripts(line)) > 1 and _is_plain_chinese(line.encode().decode("gb18030", "replace")):
            raise RefusedError(f"line {number} is in GBK, and the rest in UTF-8; {SAVE_AS}")
    return text


def _in(data: bytes, encoding: str, tried: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RefusedError(
            f"it is neither a workbook nor text in {tried}: line {line} cannot be read; {SAVE_AS}"
        ) from error


def _refuse_mixture(data: bytes) -> None:
    """Some lines in UTF-8, as where one program wrote the file and another added to it."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if _is_utf8(line):
            raise RefusedError(f"line {number} is in UTF-8, and another line is not; {SAVE_AS}")


def _plausible(text: str) -> str:
    """Almost any bytes can be read as GB18030: refused is what nobody writes in Chinese, by its line."""
    for number, line in enumerate(text.split("\n"), 1):
        if _HAN_BETWEEN_LETTERS.search(line):
            raise RefusedError(f"it is neither UTF-8 nor GBK: line {number} would be {quoted(line.strip())}; {SAVE_AS}")
    rare = [char for char in _ANY_HAN.findall(text) if not _is_common(char)]
    if len(rare) > len(_ANY_HAN.findall(text)) / 2:
        line = next(line for line in text.split("\n") if rare[0] in line)
        raise RefusedError(f"read as GBK it has hardly a common character ({quoted(line.strip())}); {SAVE_AS}")
    return text


def _is_utf8(raw: bytes) -> bool:
    """Whether a line is Chinese in UTF-8, which a line of GBK is not by chance."""
    try:
        return bool(_ANY_HAN.search(raw.decode()))
    except UnicodeDecodeError:
        return False


def _is_common(text: str) -> bool:
    try:
        text.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def _one_of_two(text: str, data: bytes) -> str:
    """UTF-8 without one Chinese character: as 谢伟 in GBK reads, of a Cyrillic and a Greek letter."""
    try:
        chinese = data.decode("gb18030")
    except UnicodeDecodeError:
        return text
    scripts = _scripts(text)
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


def _scripts(text: str) -> set[str]:
    """The scripts of its letters beside Latin ones of ASCII and Chinese ones."""
    return {unicodedata.name(letter, "").partition(" ")[0] for letter in _OTHER_LETTER.findall(text)}


def _is_plain_chinese(text: str) -> bool:
    """Whether all letters beyond ASCII are common Chinese characters, none of them inside an English word."""
    if not _ANY_HAN.search(text) or _OTHER_LETTER.search(text) or _HAN_IN_A_WORD.search(text):
        return False
    return _is_common(text)
