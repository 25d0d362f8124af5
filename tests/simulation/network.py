"""The network: every message takes a drawn time, may be lost or late, and a lost one is noticed late or at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from tests.simulation.loop import SimLoop

Answer = Callable[[Any], None]
USUAL_S = 0.0015  # a message takes at most this where nothing is wrong


class Link:
    """The way between two machines, both directions, and what is wrong with it now."""

    __slots__ = ("cut", "lossy", "name", "slow_s")

    def __init__(self, name: str) -> None:
        self.name = name
        self.heal()

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self.cut = False
        self.lossy = 0.0  # share of messages lost
        self.slow_s = 0.0  # added to a message, at most


class Network:
    """Carries requests and replies. Two requests may overtake each other, even when the first was given up."""

    def __init__(self, loop: SimLoop, rng: Random) -> None:
        self._loop, self._random = loop, rng.random
        self.links: dict[tuple[str, str], Link] = {}
        self.last_arrival_s = 0.0  # of all messages sent so far

    def link(self, one: str, other: str) -> Link:
        """The way between two machines."""
        link = self.links.get((one, other))
        if link is None:
            link = self.links[one, other] = Link(f"{one}~{other}")
        return link

    def heal(self) -> None:
        """Heal every link."""
        for link in self.links.values():
            link.heal()

    def delay(self, link: Link) -> float | None:
        """Seconds that a message takes, None where it is lost."""
        if link.cut or (link.lossy and self._random() < link.lossy):
            return None
        seconds = USUAL_S * self._random()
        return seconds + link.slow_s * self._random() if link.slow_s else seconds

    def ask(
        self, link: Link, deliver: Callable[[Answer], None], *, timeout_s: float, lost: Callable[[str], Exception]
    ) -> asyncio.Future[Any]:
        """Send a request that `deliver` runs at its server; the future ends with what that gives to its Answer.

        An exception given is raised. Where a message is lost `lost` is raised: after the time-out, or at once, as when
        the connection was reset. A request may be run although its asker has given up.
        """
        future = self._loop.create_future()
        deadline = self._loop.time() + timeout_s

        def lose() -> None:
            self._lose(future, deadline, lost)

        def answer(value: Any) -> None:
            self._send(link, lose, deadline, _settle, future, value)

        self._send(link, lose, None, deliver, answer)
        return future

    def _send(
        self, link: Link, lose: Callable[[], None], deadline: float | None, arrive: Callable[..., None], *message: Any
    ) -> None:
        seconds = self.delay(link)
        arrives_s = self._loop.time() + (seconds or 0.0)
        if seconds is None or (deadline is not None and arrives_s > deadline):
            lose()
        else:
            self.last_arrival_s = max(self.last_arrival_s, arrives_s)
            self._loop.later(seconds, arrive, *message)

    def _lose(self, future: asyncio.Future[Any], deadline: float, lost: Callable[[str], Exception]) -> None:
        if self._random() < 0.25:
            left = max(0.0, deadline - self._loop.time())
            self._loop.later(left, _settle, future, lost("nothing came in time"))
        else:
            self._loop.later(0.2 * self._random(), _settle, future, lost("the connection was reset"))


def _settle(future: asyncio.Future[Any], value: Any) -> None:
    if future.done():
        return
    if isinstance(value, BaseException):
        future.set_exception(value)
        future.exception()  # where its asker is gone nobody else takes note
    else:
        future.set_result(value)
