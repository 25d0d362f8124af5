"""Rosters as files: the cases kept beside the tests, workbooks made for one test, and what is said of a bad one."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.worksheet.worksheet import Worksheet

from dianzan.roster.candidates import Roster, RosterError, read_roster

CASES = Path(__file__).parents[1] / "cases"


def case(name: str) -> Roster:
    return read_roster(name, (CASES / name).read_bytes())


def refusal(data: bytes | str) -> str:
    content = (CASES / data).read_bytes() if isinstance(data, str) else data
    with pytest.raises(RosterError) as caught:
        read_roster("list", content)
    return str(caught.value)


def book(*rows: list[Any], change: Callable[[Worksheet], None] = lambda _sheet: None) -> bytes:
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    change(sheet)
    file = io.BytesIO()
    workbook.save(file)
    return file.getvalue()


HEAD = ["编号", "姓名", "区县", "类别"]
