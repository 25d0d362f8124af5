"""An asyncio event loop of virtual time: what runs next is drawn from the seed, and no wait takes real time."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, cast

STEPS_MAX = 100_000  # of one history; a usual one takes some thousands, so one that reaches this goes round in circles

_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class Stuck(AssertionError):
    """The history waits for something that never comes."""


class Handle:
    """A callback that waits for its turn or its time; asyncio wants `cancel` and `when` of it."""

    __slots__ = ("_when", "args", "callback", "cancelled", "process")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], process: Process, when: float) -> None:
        self.callback, self.args, self.process, self._when = callback, args, process, when
        self.cancelled = False

    def cancel(self) -> None:
        """Do not run."""
        self.cancelled = True

    def when(self) -> float:
        """The virtual second it is due."""
        return self._when


class Process:
    """A process of the system. Killed, none of its code ever runs again: no `except`, no `finally`."""

    def __init__(self, name: str, loop: SimLoop, *, clock_ms: int = 0) -> None:
        self.name, self._loop = name, loop
        self.alive = True
        self.clock_ms = clock_ms  # how far its clock is off
        self.fuse = 0  # steps until it is killed; 0: it is not to be
        self.ready: deque[Handle] = deque()
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)
        self.tasks: list[asyncio.Task[Any]] = []
        self.on_kill: list[Callable[[], None]] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` as a task of this process."""
        task = asyncio.Task(work, loop=cast("asyncio.AbstractEventLoop", self._loop), context=self.context)
        self.tasks.append(task)
        return task

    def kill(self) -> None:
        """As kill -9 does."""
        if self.alive:
            self.alive = False
            for told in self.on_kill:
                told()

    def dispose(self) -> None:
        """Close what a kill left hanging, once the history is over."""
        self.alive = False
        for task in self.tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                task.get_coro().close()


class SimLoop:
    """Runs one history.

    asyncio promises that a process's callbacks run in the order in which they became ready, and production code may
    build on that; so this order is kept, and the seed draws which process goes next. Between processes nothing is
    promised, and everything happens.
    """

    def __init__(self, rng: Random, *, epoch_ms: int = 0) -> None:
        self._random = rng.random
        self._epoch_ms = epoch_ms
        self._now = 0.0
        self._sequence = 0
        self._timers: list[tuple[float, int, Handle]] = []
        self._busy: list[Process] = []
        self.steps = 0
        self.errors: list[str] = []
        self.world = Process("world", self)
        self.running = self.world

    # ---- what asyncio asks of a loop --------------------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the history began."""
        return self._now

    def get_debug(self) -> bool:
        """Never; asyncio asks."""
        return False

    def is_running(self) -> bool:
        """Always while code runs; asyncio asks."""
        return True

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=cast("asyncio.AbstractEventLoop", self))

    def create_task(self, coro: Any, **_options: Any) -> asyncio.Task[Any]:
        """A task of the process that runs now."""
        return self.running.spawn(coro)

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        """After what is ready already in the same process."""
        process = context.get(_PROCESS, self.world) if context is not None else self.running
        handle = Handle(callback, args, process, self._now)
        if not process.ready:
            self._busy.append(process)
        process.ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        """In `delay` virtual seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        """At a virtual second."""
        process = context.get(_PROCESS, self.world) if context is not None else self.running
        when = max(when, self._now)
        handle = Handle(callback, args, process, when)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what asyncio found wrong; it fails the history."""
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def now_ms(self) -> int:
        """The true Unix milliseconds."""
        return self._epoch_ms + int(self._now * 1000)

    # ---- the world --------------------------------------------------------------------------------------------------

    def later(self, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        """In `delay` virtual seconds, whatever becomes of the process that runs now."""
        self._sequence += 1
        when = self._now + delay
        heapq.heappush(self._timers, (when, self._sequence, Handle(callback, args, self.world, when)))

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run until `main`, a task of the world, has ended. Raises Stuck where nothing can happen any more."""
        world = self.world
        asyncio._set_running_loop(cast("asyncio.AbstractEventLoop", self))
        try:
            task = self.world.spawn(main)
            while not task.done():
                handle = self._next()
                process = handle.process
                if handle.cancelled or not process.alive:
                    continue
                self.steps += 1
                if process.fuse:
                    process.fuse -= 1
                    if not process.fuse:
                        process.kill()
                        continue
                self.running = process
                handle.callback(*handle.args)
                self.running = world
                if self.steps > STEPS_MAX:
                    raise Stuck(f"{STEPS_MAX} steps were not enough")
            return task.result()
        finally:
            asyncio._set_running_loop(None)

    def _next(self) -> Handle:
        busy = self._busy
        if not busy:
            if not self._timers:
                raise Stuck("nothing can happen any more")
            self._now, _sequence, handle = heapq.heappop(self._timers)
            return handle
        at = int(self._random() * len(busy)) if len(busy) > 1 else 0
        ready = busy[at].ready
        handle = ready.popleft()
        if not ready:
            busy[at] = busy[-1]
            busy.pop()
        return handle
