"""Readers of a stream are woken by a change of their campaign, by no other, and when the process stops."""

from __future__ import annotations

import asyncio

import pytest

from results_api.changes import Changes, within

SOON_S = 0.01


async def test_a_change_wakes_the_readers_of_its_campaign_and_no_others() -> None:
    changes = Changes()
    readers = [changes.next_of("a"), changes.next_of("a"), changes.next_of("b")]

    changes.tell("a")

    assert [await within(reader, SOON_S) for reader in readers] == [True, True, False]


async def test_a_change_between_reading_and_waiting_is_not_missed() -> None:
    changes = Changes()
    following = changes.next_of("a")
    changes.tell("a")

    assert await within(following, SOON_S)
    assert not await within(changes.next_of("a"), SOON_S), "and the next wait is for the next change"


async def test_stopping_wakes_everybody() -> None:
    changes = Changes()
    waiting = [asyncio.create_task(within(changes.next_of(campaign), 5)) for campaign in "ab"]
    await asyncio.sleep(0)

    changes.stop()

    assert await asyncio.gather(*waiting) == [True, True]
    assert changes.stopping


@pytest.mark.parametrize("campaign", ["a", "nobody reads this"])
def test_telling_nobody_is_no_error(campaign: str) -> None:
    Changes().tell(campaign)
