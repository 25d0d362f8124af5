"""The published view of every campaign, read from Postgres four times a second and rendered once for all readers."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from dianzan.domain.campaign import State
from dianzan.domain.errors import CampaignUnknown, CandidateUnknown, LedgerAway, ResultsUnavailable
from dianzan.domain.limits import SNAPSHOT_EVERY_S
from dianzan.domain.ranking import ranked
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import Seal, StoredCampaign, Tally
from dianzan.process import logs, metrics
from dianzan.roster.candidates import Candidate
from results_api.rendered import Rendered

_log = logs.get(__name__)
_json = msgspec.json.Encoder().encode

ZERO = Tally(0, 0)
_FORMULA_SIGNS = tuple("=+-@\t\r\n＝＋－＠")
RENDER_AGAIN_S = 5.0  # of unchanged numbers, so that `as_of` stays fresh


@dataclass(frozen=True, slots=True)
class Published:
    """Everything served of one campaign; hidden numbers are in none of its documents."""

    version: int
    tally: Mapping[int, Tally] = field(repr=False)
    as_of: datetime
    hidden: bool
    summary: Rendered
    event: Rendered
    documents: Mapping[str, Rendered] = field(repr=False)  # by the last part of their address
    candidates: Mapping[str, Rendered] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What may be shown: candidate index -> (rank, tally), totals; None in the place of every hidden number."""

    by_index: Mapping[int, tuple[int, Tally]] | None
    likes: int | None
    people: int | None
    as_of: datetime
    sealed: bool


class Snapshots:
    """Keeps the published view fresh. While Postgres is down the last view goes on being served, with its `as_of`."""

    def __init__(self, ledger: Ledger, tell: Callable[[str], None]) -> None:
        self._ledger, self._tell = ledger, tell
        self._published: dict[str, Published] = {}
        self._rosters: dict[int, tuple[int, Mapping[int, Candidate]]] = {}
        self._list = Rendered.of(b'{"campaigns":[]}')
        self._read_at = 0.0

    @property
    def age_s(self) -> float | None:
        """Seconds since the last successful read; None before the first."""
        return time.monotonic() - self._read_at if self._read_at else None

    @property
    def campaign_list(self) -> Rendered:
        """All published campaigns. Raises ResultsUnavailable before the first successful read."""
        self._require_read()
        return self._list

    def of(self, campaign: str) -> Published:
        """One campaign. Raises CampaignUnknown, or ResultsUnavailable before the first successful read."""
        self._require_read()
        try:
            return self._published[campaign]
        except KeyError:
            raise CampaignUnknown(f"No campaign {campaign[:40]!r} is published here.") from None

    def candidate(self, campaign: str, code: str) -> Rendered:
        """One candidate. Raises CandidateUnknown."""
        try:
            return self.of(campaign).candidates[code]
        except KeyError:
            raise CandidateUnknown(f"Campaign {campaign} has no candidate {code[:40]!r}.") from None

    async def run(self) -> None:
        """Refresh for ever."""
        began = time.monotonic()
        # Computed when scraped: a read that hangs for 30 s must not leave the age of the one before.
        metrics.SNAPSHOT_AGE_SECONDS.set_function(lambda: time.monotonic() - (self._read_at or began))
        while True:
            started = time.perf_counter()
            try:
                await self.refresh()
            except LedgerAway as error:
                _log.warning("the last counts go on being served", reason=str(error))
            took_s = time.perf_counter() - started
            metrics.SNAPSHOT_SECONDS.observe(took_s)
            # A Postgres so slow that a reading takes longer has half of its time for others.
            await asyncio.sleep(max(took_s, SNAPSHOT_EVERY_S - took_s))

    async def refresh(self) -> None:
        """Read all published campaigns; render those whose numbers or rules changed, and tell of those."""
        published: dict[str, Published] = {}
        tallies = await self._ledger.tallies.all()
        for stored in await self._ledger.campaigns.all():
            if stored.state is not State.draft:
                # Nothing of a hidden campaign may change with its likes, not even how often it is rendered (`as_of`).
                tally = {} if stored.hidden else tallies.get(stored.number, {})
                published[stored.id] = await self._current(stored, tally)
        listed = [msgspec.Raw(each.summary.body) for each in published.values()]
        self._list = Rendered.of(_json({"campaigns": listed}))
        before, self._published = self._published, published
        self._read_at = time.monotonic()
        for campaign, found in published.items():
            if campaign in before and before[campaign].event.etag != found.event.etag:
                self._tell(campaign)

    def _require_read(self) -> None:
        if not self._read_at:
            raise ResultsUnavailable("The results have not been read from Postgres yet; ask again.")

    async def _current(self, stored: StoredCampaign, tally: Mapping[int, Tally]) -> Published:
        known = self._published.get(stored.id)
        if known is not None and known.version == stored.version and known.tally == tally:
            rendered_ago_s = (datetime.now(UTC) - known.as_of).total_seconds()
            if stored.state is State.sealed or rendered_ago_s < RENDER_AGAIN_S:
                return known
        return await self._publish(stored, tally)

    async def _publish(self, stored: StoredCampaign, tally: Mapping[int, Tally]) -> Published:
        seal = await self._ledger.campaigns.seal(stored) if stored.state is State.sealed else None
        candidates = await self._roster(stored)
        numbers = numbers_of(stored, seal, candidates, tally)
        hours = None if numbers.by_index is None else await self._ledger.tallies.hours(stored)
        if numbers.likes is not None:
            metrics.PUBLISHED_LIKES.labels(stored.id).set(numbers.likes)
        return render(stored, candidates, numbers, hours, tally)

    async def _roster(self, stored: StoredCampaign) -> Mapping[int, Candidate]:
        # With stories up to 100 MB, and counts change four times a second: read once a version, which imports raise.
        version, candidates = self._rosters.get(stored.number, (0, {}))
        if version != stored.version:
            candidates = await self._ledger.campaigns.candidates(stored)
            self._rosters[stored.number] = (stored.version, candidates)
        return candidates


def numbers_of(
    stored: StoredCampaign, seal: Seal | None, candidates: Mapping[int, Candidate], tally: Mapping[int, Tally]
) -> Numbers:
    """What may be shown of a campaign now: the sealed tally, the running counts, or nothing. Pure."""
    as_of = datetime.now(UTC)
    if seal is not None:
        return Numbers(seal.tallies, seal.likes, seal.people, as_of, sealed=True)
    if stored.hidden:
        return Numbers(None, None, None, as_of, sealed=False)
    people = tally.get(0, ZERO).people
    # An estimate may err above the likes, of which every person has at least one.
    by_index = {i: Tally(t.likes, min(t.people, t.likes)) for i in candidates if (t := tally.get(i, ZERO))}
    ranks = ranked({index: found.likes for index, found in by_index.items()})
    likes = sum(found.likes for found in by_index.values())
    numbered = {index: (ranks[index], found) for index, found in by_index.items()}
    return Numbers(numbered, likes, min(people, likes), as_of, sealed=False)


def render(
    stored: StoredCampaign,
    candidates: Mapping[int, Candidate],
    numbers: Numbers,
    hours: list[tuple[datetime, int]] | None,
    tally: Mapping[int, Tally],
) -> Published:
    """Render every document of a campaign. Pure."""
    rows = _rows(candidates, numbers)
    totals = {"likes": numbers.likes, "people": numbers.people}
    quality = {"people_estimated": not numbers.sealed and numbers.people is not None, "sealed": numbers.sealed}
    counts = {} if numbers.by_index is None else {r["code"]: [r["rank"], r["likes"], r["people"]] for r in rows}
    public = [{name: value for name, value in row.items() if name != "story"} for row in rows]

    def tagged(document: Mapping[str, Any]) -> Rendered:
        content = _json({**document, **quality})
        return Rendered.of(content[:-1] + as_of, tagged=content)

    head, as_of = {"campaign": stored.id}, f',"as_of":"{numbers.as_of.isoformat()}"}}'.encode()
    return Published(
        version=stored.version,
        tally=tally,
        as_of=numbers.as_of,
        hidden=numbers.by_index is None,
        summary=Rendered.of(_json(_summary(stored, len(candidates)))),
        event=tagged({"counts": counts, **totals}),
        documents={
            "results": tagged({**head, "results": public, **totals}),
            "timeline": Rendered.of(_json({**head, **_timeline(stored, hours)})),
            "tally.csv": Rendered.of(_csv(rows), media_type="text/csv; charset=utf-8"),
            "tally.json": tagged({**head, "tally": [_tally_row(row) for row in rows], **totals}),
        },
        candidates=_RenderedWhenRead({row["code"]: row for row in rows}, lambda row: tagged({**head, **row})),
    )


class _RenderedWhenRead(Mapping[str, Rendered]):
    """Candidates' own documents: of 5,000 with their stories few are read before the numbers change again."""

    def __init__(self, rows: Mapping[str, dict[str, Any]], render_row: Callable[[dict[str, Any]], Rendered]) -> None:
        self._rows, self._render_row = rows, render_row
        self._rendered: dict[str, Rendered] = {}

    def __getitem__(self, code: str) -> Rendered:
        if code not in self._rendered:
            self._rendered[code] = self._render_row(self._rows[code])
        return self._rendered[code]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _rows(candidates: Mapping[int, Candidate], numbers: Numbers) -> list[dict[str, Any]]:
    rows = []
    for index, candidate in candidates.items():
        rank, tally = (None, None) if numbers.by_index is None else numbers.by_index.get(index, (None, ZERO))
        rows.append(
            {
                "rank": rank,
                "code": candidate.code,
                "name": candidate.name,
                "kind": candidate.kind,
                "district": candidate.district,
                "category": candidate.category,
                "summary": candidate.summary,
                "story": candidate.story,
                "photo": candidate.photo,
                "likes": None if tally is None else tally.likes,
                "people": None if tally is None else tally.people,
            }
        )
    # By code within a rank, and by code alone while hidden: the order itself must not tell who leads.
    return sorted(rows, key=lambda row: (row["rank"] or 0, row["code"]))


def _summary(stored: StoredCampaign, candidates: int) -> dict[str, Any]:
    rules = stored.rules.model_dump(mode="json", exclude={"shards", "expected_voters"})
    return {**rules, "state": stored.state, "candidates": candidates}


def _timeline(stored: StoredCampaign, hours: list[tuple[datetime, int]] | None) -> dict[str, Any]:
    if hours is None:
        return {"timezone": stored.rules.timezone, "hours": None, "days": None}
    days: dict[str, int] = {}
    for hour, likes in hours:
        day = hour.astimezone(stored.rules.zone).date().isoformat()
        days[day] = days.get(day, 0) + likes
    return {
        "timezone": stored.rules.timezone,
        "hours": [{"hour": h.astimezone(stored.rules.zone).isoformat(), "likes": likes} for h, likes in hours],
        "days": [{"day": day, "likes": likes} for day, likes in days.items()],
    }


def _tally_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("rank", "code", "name", "likes", "people")}


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["rank", "code", "name", "likes", "people"])
    for row in rows:
        cells = _tally_row(row)
        writer.writerow(_spreadsheet_safe(cell) for cell in cells.values())
    return text.getvalue().encode("utf-8-sig")  # the mark lets Excel read the Chinese names


def _spreadsheet_safe(cell: Any) -> Any:
    # A name that begins like a formula would run in the auditor's spreadsheet; East Asian ones take wide signs too.
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_SIGNS) else cell
