"""Tables for people: users' text is never markup, an id is never cut, and into a pipe everything goes whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from dianzan.domain.campaign import Rules
from dianzan.domain.shown_text import harmless

UNBOUNDED = 10_000  # columns of a pipe: far wider than any line of ours


def print_table(whole: Sequence[str], broken: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the cells of the columns `broken`, which come last, may be broken to fit a terminal."""
    table = Table(box=None)
    for name in whole:
        table.add_column(name, no_wrap=True)
    for name in broken:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    console = Console(markup=False, emoji=False, highlight=False)
    seen, console.width = console.width if console.is_terminal else UNBOUNDED, UNBOUNDED
    # Wider than the terminal rather than cut: the terminal then breaks the lines.
    console.width = max(seen, Measurement.get(console, console.options, table).minimum)
    console.print(table)


def moment(instant: datetime, rules: Rules) -> str:
    """An instant by the campaign's own clock, to the minute."""
    return f"{instant.astimezone(rules.zone):%Y-%m-%d %H:%M}"
