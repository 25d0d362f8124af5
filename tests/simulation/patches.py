"""What production code takes from the machine (clocks, randomness, logs, metrics), given to it by the simulation."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from tests.simulation.loop import SimLoop

# Waits are shortened as a whole, so that a history of few seconds holds many of them; their order is kept.
REPLICA_WAIT_MS = 150
STORE_TIMEOUT_S = 1.0
BACKOFF_S_MAX = 1.0

# Module -> its names that are replaced. One that is not there any more stops the simulation before it begins:
# otherwise it would run on the real machine, and nothing would say so.
REPLACED: Final[Mapping[str, Sequence[str]]] = {
    "dianzan.process.background": ["os", "_log"],
    "dianzan.process.trouble": ["time"],
    "dianzan.life.drain": ["time"],
    "dianzan.store.durability": ["REPLICA_WAIT_MS", "_replica_gaps"],
    "dianzan.store.like_link": ["now_ms", "STORE_TIMEOUT_S"],
    "dianzan.store.nodes": ["random"],
    "dianzan.store.store": ["_log"],
    "tally_worker.comparison": ["_log", "metrics", "RECONCILE_EVERY_S", "SETTLE_S", "DRAIN_S_MAX"],
    "tally_worker.flush": ["_log", "metrics"],
    "tally_worker.flush_loop": ["now_ms", "time", "random", "_log", "metrics", "BACKOFF_S_MAX"],
    "vote_api.likes.batcher": ["now_ms", "time", "os", "_log", "metrics"],
    "vote_api.likes.batchers": ["metrics"],
    "vote_api.likes.path": ["now_ms", "time", "_log", "metrics", "_ANSWERED", "_COUNTERS"],
    "vote_api.store.campaigns": ["now_ms", "_log", "metrics"],
    "vote_api.store.health": ["now_ms", "time", "metrics"],
    "vote_api.store.watch": ["time", "_log", "metrics"],
}


def places(replaced: Mapping[str, Sequence[str]]) -> list[tuple[ModuleType, str, Any]]:
    """Module, name and real value of everything in a table. Raises LookupError where a module lacks a name."""
    found = []
    for path, names in replaced.items():
        module = import_module(path)
        for name in names:
            if name not in vars(module):
                raise LookupError(f"{path} has no {name} that the simulation could replace; see {__name__}.REPLACED")
            found.append((module, name, vars(module)[name]))
    return found


_PLACES: Final = places(REPLACED)


def unreplaced() -> list[str]:
    """Where a production module that is loaded has a name of the table, and keeps its real one."""
    names = {name for of_module in REPLACED.values() for name in of_module}
    return sorted(
        f"{path}.{name}"
        for path, module in sys.modules.items()
        if path.partition(".")[0] in ("dianzan", "vote_api", "tally_worker")
        for name in names.difference(REPLACED.get(path, ()))
        if name in vars(module)
    )


class Log:
    """A logger whose lines are events of the history."""

    def __init__(self, note: Callable[..., None]) -> None:
        self._note = note

    def _line(self, event: str, **fields: Any) -> None:
        fields.pop("exc_info", None)
        self._note("log", event, *(f"{name}={value}" for name, value in fields.items()))

    debug = info = warning = error = critical = _line


class Unmeasured:
    """Stands for every metric; a history is not to be seen in those of the process that runs it."""

    def __getattr__(self, _name: str) -> Unmeasured:
        return self

    def __call__(self, *_args: object, **_labels: object) -> Unmeasured:
        """Of one label, or a measurement."""
        return self


async def _set_right(*_asked: object) -> list[str]:
    """A simulated replica is set as its primary, and by a connection that no history simulates."""
    return []


def _machine(loop: SimLoop, rng: random.Random, note: Callable[..., None], died: Callable[[], None]) -> dict[str, Any]:
    """Names that production modules import, and what stands for them."""

    def now_ms() -> int:
        return loop.now_ms() + loop.running.clock_ms

    def now_s() -> float:
        return now_ms() / 1000

    def up_s() -> float:
        return 1000 + loop.time()  # a machine that began a while ago

    return {
        "now_ms": now_ms,
        "time": SimpleNamespace(monotonic=up_s, perf_counter=up_s, time=now_s),
        "os": SimpleNamespace(urandom=rng.randbytes, getpid=int, kill=lambda _pid, _signal: died()),
        "random": rng,
        "_log": Log(note),
        "metrics": Unmeasured(),
        "_ANSWERED": Unmeasured(),
        "_COUNTERS": {},
        "REPLICA_WAIT_MS": REPLICA_WAIT_MS,
        "_replica_gaps": _set_right,
        "STORE_TIMEOUT_S": STORE_TIMEOUT_S,
        "BACKOFF_S_MAX": BACKOFF_S_MAX,
        "RECONCILE_EVERY_S": 1.0,
        "SETTLE_S": 0.3,
        "DRAIN_S_MAX": 3.0,
    }


@contextmanager
def simulated(loop: SimLoop, rng: random.Random, note: Callable[..., None], died: Callable[[], None]) -> Iterator[None]:
    """Production modules run on the simulated machine inside this block."""
    machine = _machine(loop, rng, note, died)
    for module, name, _real in _PLACES:
        setattr(module, name, machine[name])
    try:
        yield
    finally:
        for module, name, real in _PLACES:
            setattr(module, name, real)
