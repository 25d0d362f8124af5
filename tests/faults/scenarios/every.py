"""Every scenario there is, in the order in which they are run: those of one world side by side."""

from __future__ import annotations

import importlib
import pkgutil

from tests.faults import scenarios
from tests.faults.registry import SCENARIOS, Scenario


def all_of() -> list[Scenario]:
    """Import every module of this folder and return what they have registered, sorted by world."""
    for found in pkgutil.iter_modules(scenarios.__path__):
        importlib.import_module(f"{scenarios.__name__}.{found.name}")
    worlds = list(dict.fromkeys(each.world for each in SCENARIOS))
    return sorted(SCENARIOS, key=lambda each: worlds.index(each.world))
