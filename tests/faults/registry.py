"""The list of scenarios: what each shows, what it needs, and how often it is run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tests.faults.run import Fault
from tests.faults.world import World, single_world

WorldMaker: TypeAlias = Callable[[Path], AbstractAsyncContextManager[World]]


@dataclass(frozen=True)
class Scenario:
    """`smoke` and `full` are cycles. A control names the kinds of violation of which the checker must find one."""

    name: str
    fault: Fault
    world: WorldMaker
    smoke: int
    full: int
    likes: int
    needs: tuple[str, ...]
    must_fail: tuple[str, ...]
    campaign: dict[str, Any]

    @property
    def missing(self) -> str:
        """Why it cannot run here, empty where it can."""
        return "; ".join(NEEDS[need][1] for need in self.needs if not NEEDS[need][0]())


# What a scenario may need -> whether it is here, what to say where it is not.
NEEDS: dict[str, tuple[Callable[[], bool], str]] = {
    "root": (lambda: os.geteuid() == 0, "root is needed (a small tmpfs is mounted)"),
    "strace": (lambda: shutil.which("strace") is not None, "strace is not installed (apt install strace)"),
    "faketime": (lambda: bool(faketime_library()), "libfaketime is not installed (apt install faketime)"),
}
SCENARIOS: list[Scenario] = []


def scenario(
    name: str,
    *,
    smoke: int = 1,
    full: int = 6,
    likes: int = 300,
    world: WorldMaker = single_world,
    needs: tuple[str, ...] = (),
    must_fail: tuple[str, ...] = (),
    **campaign: Any,
) -> Callable[[Fault], Fault]:
    """Register a fault. `likes` requests are answered around it; `campaign` changes the rules of its campaigns.

    `smoke=0` leaves what takes long to the full run.
    """

    def register(fault: Fault) -> Fault:
        assert all(each.name != name for each in SCENARIOS), f"two scenarios are named {name!r}"
        SCENARIOS.append(Scenario(name, fault, world, smoke, full, likes, needs, must_fail, campaign))
        return fault

    return register


def faketime_library() -> str:
    """The path of libfaketime, empty where it is not installed."""
    places = [
        *Path("/usr/lib").glob("*/faketime/libfaketime.so.1"),
        *Path("/usr/lib").glob("faketime/libfaketime.so.1"),
    ]
    return str(places[0]) if places else ""
