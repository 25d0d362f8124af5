"""Background tasks end when they are asked to."""

from __future__ import annotations

import asyncio

import pytest

from dianzan.process import background


async def test_a_task_that_swallows_a_cancel_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "CANCEL_AGAIN_S", 0.01)
    swallowed = 0
    began = asyncio.Event()

    async def work() -> None:
        nonlocal swallowed
        began.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    task = background.spawn("work", work())
    await began.wait()
    await asyncio.wait_for(background.stop(task), 10)

    assert swallowed == 3
    assert task.cancelled()


async def test_a_task_that_has_ended_is_left_alone() -> None:
    async def work() -> None:
        return

    task = background.spawn("work", work())
    await task
    await background.stop(task)

    assert not task.cancelled()
