"""Every scenario there is, in the order in which they are run: those of one world side by side."""

from __future__ import annotations

import importlib
import pkgutil

import tests.faults
from tests.faults.registry import SCENARIOS, Scenario


def all_of() -> list[Scenario]:
    """Import every `scenarios_*` module and return what they have registered, sorted by world."""
    for found in pkgutil.iter_modules(tests.faults.__path__):
        if found.name.startswith("scenarios_"):
            importlib.import_module(f"tests.faults.{found.name}")
    worlds = list(dict.fromkeys(each.world for each in SCENARIOS))
    return sorted(SCENARIOS, key=lambda each: worlds.index(each.world))
