"""Background tasks end when they are asked to."""

from __future__ import annotations

import asyncio
import signal

import pytest
from structlog.testing import capture_logs

from dianzan.domain.errors import LedgerError
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


@pytest.mark.parametrize(
    ("error", "told"), [(LedgerError("Run dianzan migrate."), "reason"), (ValueError(), "exc_info")]
)
async def test_a_death_of_our_own_making_is_told_in_its_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: killed.append(number))

    async def work() -> None:
        raise error

    with capture_logs() as lines:
        await asyncio.wait([background.spawn("work", work())])

    assert killed == [signal.SIGTERM]
    assert [{"reason", "exc_info"} & line.keys() for line in lines] == [{told}]
