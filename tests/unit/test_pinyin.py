"""A name is found by its pinyin and its initials, however its characters may be read."""

from __future__ import annotations

import pytest

from results_api.pinyin import READINGS_MAX, spelled


@pytest.mark.parametrize(
    ("name", "searched"),
    [
        ("林晓禾", {"linxiaohe", "lxh"}),
        ("单田芳", {"shantianfang", "dantianfang", "stf"}),
        ("曾乐", {"zengle", "zengyue"}),
        ("张　三", {"zhangsan", "zs"}),
        ("阿依古丽·买买提", {"ayigulimaimaiti"}),
        ("A队", {"adui", "ad"}),
    ],
)
def test_a_name_is_spelled_as_people_may_type_it(name: str, searched: set[str]) -> None:
    assert searched <= set(spelled(name).split())


@pytest.mark.parametrize("name", ["Mike", "", "·", "ئەلى", "𠮷野家", "م"])
def test_a_name_without_han_or_with_a_character_of_no_reading_has_no_spelling(name: str) -> None:
    assert spelled(name) == ""


def test_a_long_name_is_spelled_once_and_a_short_one_in_few_ways() -> None:
    assert len(spelled("北京市朝阳区长乐重行救援队").split()) == 2
    assert len(spelled("曾单乐长").split()) <= 2 * READINGS_MAX
