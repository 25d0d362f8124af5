"""The report of a rehearsal: Markdown with its figures, and a picture of its days as SVG text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from loadtests.checks import Verdict
from loadtests.rehearsal.figures import MB, Day, Figures
from loadtests.rehearsal.plan import CANDIDATES, QUOTA
from loadtests.shapes import DAYS, HOURS

WIDTH, PANEL, GAP, LEFT, TOP = 760, 120, 46, 66, 34  # of the picture, in pixels
COLOUR: Final = ("#9db8d2", "#c0392b", "#4b7f52")
FONT: Final = "font-family='sans-serif' font-size='12' fill='#333'"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What there is to report of a finished rehearsal beside its figures.

    Voters by the plan, bytes of the ledger's rows and indexes, seconds of seal and comparison, and where it ran:
    `command`, `ended`, `commit`, `machine`, `versions`.
    """

    verdict: Verdict
    voters: int
    rows: int
    indexes: int
    judged_s: float
    where: Mapping[str, str]


def markdown(figures: Figures, outcome: Outcome, picture_name: str) -> str:
    """The whole report; the picture lies beside it under the name given."""
    head = (
        f"{figures.likes:,} likes of {outcome.voters:,} voters for {CANDIDATES} candidates, those of {len(DAYS)} days, "
        "sent through the store function, the tally worker, PostgreSQL, seal and recount:\n\n"
        f"```console\n$ {outcome.where['command']}\n```\n"
    )
    parts = [
        "# The campaign rehearsed",
        head,
        f"## {'Equal, to the like' if outcome.verdict.holds else 'DIFFERENT'}",
        _verdict(outcome.verdict),
        "## What it took",
        _table([("", ""), *facts(figures, outcome)]),
        f"![Likes, rate and memory by day]({picture_name})\n",
        "## The days",
        _table([_DAY_HEAD, *_day_rows(figures)]),
        "## How to read it",
        _HOW,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _verdict(verdict: Verdict) -> str:
    rows = [(check.name, f"{check.expected:,}", f"{check.found:,}") for check in verdict.checks]
    lines = [f"- {check.name}: {line}" for check, details in verdict.differences() for line in details]
    compared = (
        "The likes are compared candidate by candidate, those of the days candidate by candidate and day by day.\n"
    )
    return "\n".join([_table([("", "sent", "found"), *rows]), compared, *lines])


def facts(figures: Figures, outcome: Outcome) -> list[tuple[str, str]]:
    """Name and value of everything measured, and of where."""
    likes, seconds = max(1, figures.likes), max(figures.seconds, 1e-9)
    cpu = ", ".join(f"{name} {seconds_ / likes * 1e6:.1f}" for name, seconds_ in figures.cpu_s.items())
    found = [
        ("sending", f"{_clock(seconds)}: {likes / seconds:,.0f} likes/s, and {figures.repeated:,} repeated likes"),
        ("of it waiting for worker and PostgreSQL", f"{figures.waited_s / seconds:.0%}"),
        ("CPU, µs a like", cpu),
        ("seal, with two recounts, and comparison", _clock(outcome.judged_s)),
        ("memory of the store, at most", f"{figures.peak / MB:,.0f} MB; its process {figures.peak_rss / MB:,.0f} MB"),
        (
            "ledger on disk",
            f"{_bytes(outcome.rows + outcome.indexes)}: {outcome.rows / likes:.0f} of rows + "
            f"{outcome.indexes / likes:.0f} of indexes, bytes a like",
        ),
        ("interrupted and gone on", f"{figures.resumed} times"),
        *((name, value) for name, value in outcome.where.items() if name != "command"),
    ]
    if figures.days:
        fullest = max(figures.days, key=lambda day: day.store - day.backlog)
        said = f"{bytes_per_like(figures, fullest):.1f} at the fullest, for {fullest.held:,} likes of eight days"
        found.insert(5, ("bytes of the store a like whose mark is kept", said))
    return found


def bytes_per_like(figures: Figures, day: Day) -> float:
    """Bytes of the store above an empty one, without what waits for the ledger, per like whose mark it keeps."""
    return max(0, day.store - day.backlog - figures.empty) / max(1, day.held)


_DAY_HEAD: Final = ("day", "likes", "seconds", "likes/s", "store, MB", "of it likes that wait, MB", "bytes a like kept")


def _day_rows(figures: Figures) -> Iterator[Sequence[str]]:
    for number, day in enumerate(figures.days, start=1):
        rate = day.likes / max(day.seconds, 1e-9)
        yield (
            str(number),
            f"{day.likes:,}",
            f"{day.seconds:,.0f}",
            f"{rate:,.0f}",
            f"{day.store / MB:,.1f}",
            f"{day.backlog / MB:,.1f}",
            f"{bytes_per_like(figures, day):.1f}",
        )


_HOW: Final = f"""\
- The plan is a function of the seed. A voter likes 1 to {QUOTA} candidates a day, few more often than many, and comes
  twice for more than five; the n-th candidate in favour is liked as often as 1/n; a quarter of a day's voters is new.
  Every tenth ballot is sent again and must count nothing.
- The likes are sent as fast as the stores take them, in the order of the campaign's days. How a day's likes fall into
  its hours is in the picture; the evening hour holds a fifth of them.
- The store refuses a like outside its window by its own clock, so a day cannot be sent before it comes. Each day goes
  under its own name with bounds around the present; `liked_at` and the timeline's hours are those of the rehearsal.
- Marks are removed by the worker's own step when the campaign's clock says so, seven days after their window. So the
  store holds the marks of eight days at most, as in the campaign.
- The estimates of people take up to 7 MB of the store whatever the number of likes, which shows in small rehearsals.
- Not rehearsed here: HTTP, tokens and the batcher of the vote API (the ballots go through its connection, packed as it
  packs them), readers, and a replica.
"""


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines) + "\n"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / MB:.1f} MB"


# ---- the picture ----------------------------------------------------------------------------------------------------


def picture(figures: Figures) -> str:
    """Three panels over the days, each with its own scale: the campaign's likes/s by hour, the rehearsal's rate by day,
    and the store's memory at each day's end.
    """
    panels: list[tuple[str, list[float]]] = [
        ("the campaign itself: likes/s, hour by hour", _campaign_rates(figures)),
        ("rehearsed: likes/s, day by day", [day.likes / max(day.seconds, 1e-9) for day in figures.days]),
        ("memory of the store at the day's end, MB", [day.store / MB for day in figures.days]),
    ]
    height = TOP + len(panels) * (PANEL + GAP)
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'>",
        f"<rect width='{WIDTH}' height='{height}' fill='white'/>",
    ]
    for number, (title, values) in enumerate(panels):
        lines += _panel(title, values, TOP + number * (PANEL + GAP), COLOUR[number])
    return "\n".join([*lines, "</svg>", ""])


def _campaign_rates(figures: Figures) -> list[float]:
    """Likes a second of every hour of the campaign."""
    return [
        figures.likes * day / sum(DAYS) * hour / sum(HOURS) / 3600  # an hour's share of its day's share
        for day in DAYS
        for hour in HOURS
    ]


def _panel(title: str, values: Sequence[float], top: float, colour: str) -> Iterator[str]:
    bottom, width = top + PANEL, WIDTH - LEFT - 10
    highest = max(values, default=0.0)
    yield f"<text x='{LEFT}' y='{top - 8}' {FONT}>{title}</text>"
    yield f"<text x='{LEFT - 6}' y='{top + 10}' text-anchor='end' {FONT}>{highest:,.0f}</text>"
    yield f"<text x='{LEFT - 6}' y='{bottom}' text-anchor='end' {FONT}>0</text>"
    step = width / max(1, len(values))
    for place, value in enumerate(values):
        tall = PANEL * value / highest if highest else 0
        yield (
            f"<rect x='{LEFT + place * step:.1f}' y='{bottom - tall:.1f}' width='{step * 0.9:.2f}' "
            f"height='{tall:.1f}' fill='{colour}'/>"
        )
    yield f"<line x1='{LEFT}' y1='{bottom}' x2='{LEFT + width}' y2='{bottom}' stroke='#333'/>"
    for day in range(len(DAYS)):
        at = LEFT + (day + 0.5) * width / len(DAYS)
        yield f"<text x='{at:.1f}' y='{bottom + 15}' text-anchor='middle' {FONT}>{day + 1}</text>"
