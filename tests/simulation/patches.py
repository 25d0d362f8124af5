"""What production code takes from the machine (clocks, randomness, logs, metrics), given to it by the simulation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.simulation.loop import SimLoop

# Waits are shortened as a whole, so that a history of few seconds holds many of them; their order is kept.
REPLICA_WAIT_MS = 150
STORE_TIMEOUT_S = 1.0
BACKOFF_S_MAX = 1.0

MODULES: list[ModuleType] = [
    import_module(name)
    for name in (
        "dianzan.process.background",
        "dianzan.life.drain",
        "dianzan.life.lifecycle",
        "dianzan.store.like_link",
        "dianzan.life.restore",
        "dianzan.store.durability",
        "dianzan.store.store",
        "tally_worker.flush",
        "tally_worker.flush_loop",
        "tally_worker.comparison",
        "vote_api.likes.batcher",
        "vote_api.likes.batchers",
        "vote_api.likes.path",
        "vote_api.store.campaigns",
        "vote_api.store.health",
        "vote_api.store.watch",
    )
]


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
    real = [(module, name, vars(module)[name]) for module in MODULES for name in machine if name in vars(module)]
    for module, name, _was in real:
        setattr(module, name, machine[name])
    try:
        yield
    finally:
        for module, name, was in real:
            setattr(module, name, was)
