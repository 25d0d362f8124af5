"""Background tasks: named, and the death of one stops the process loudly instead of leaving it half alive."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any

from dianzan.domain.errors import DianzanError
from dianzan.process import logs

_log = logs.get(__name__)

CANCEL_AGAIN_S = 1.0
died: set[str] = set()  # names of tasks that ended with an error: such a process must not serve on for a drain


def spawn(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run `work` as a named task. If it ends with an error the process gets SIGTERM, so that it stops in order."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_stop_on_error)
    return task


async def stop(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended.

    Asked again every second: in Python 3.11 asyncio.wait_for, which redis-py waits with, swallows a cancel that comes
    at the moment it ends, and the shutdown would wait for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN_S)


def _stop_on_error(task: asyncio.Task[None]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    # One of our own errors says what to do; any other is a fault, which its traceback explains.
    told = {"reason": str(error)} if isinstance(error, DianzanError) else {"exc_info": error}
    _log.critical("background task died; stopping", task=task.get_name(), **told)
    died.add(task.get_name())
    os.kill(os.getpid(), signal.SIGTERM)
