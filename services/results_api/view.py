"""The published view of every campaign, read from Postgres four times a second and rendered once for all readers."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from dianzan.domain.campaign import State
from dianzan.domain.codes import folded
from dianzan.domain.errors import CampaignUnknown, CandidateUnknown, LedgerAway, ResultsUnavailable
from dianzan.domain.limits import SNAPSHOT_EVERY_S
from dianzan.domain.ranking import ranked
from dianzan.http.openapi import encode
from dianzan.ledger.ledger import Ledger
from dianzan.ledger.records import Seal, StoredCampaign, Tally
from dianzan.process import logs, metrics
from dianzan.process.trouble import Trouble
from dianzan.roster.candidates import Candidate
from results_api import documents
from results_api.pinyin import spelled
from results_api.rendered import Rendered

_log = logs.get(__name__)

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
    campaign: documents.CampaignSummary
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
    digest: str | None = None  # of what was sealed


class Snapshots:
    """Keeps the published view fresh. While Postgres is down the last view goes on being served, with its `as_of`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._published: dict[str, Published] = {}
        self._rosters: dict[int, tuple[int, Mapping[int, Candidate]]] = {}
        self._list = Rendered.of(encode(documents.CampaignList([])))
        self._read_at = 0.0
        self._lag_s = 0.0  # of a standby that is read in the primary's place

    @property
    def age_s(self) -> float | None:
        """Seconds since what is served was true; None before the first successful read."""
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

    def may_have(self, campaign: str) -> bool:
        """Whether a campaign is published, or nothing is known yet."""
        return not self._read_at or folded(campaign) in self._published

    def event(self, campaign: str) -> Rendered:
        """What the readers of its stream are sent. Raises as `of` does."""
        return self.of(campaign).event

    def candidate(self, campaign: str, code: str) -> Rendered:
        """One candidate. Raises CandidateUnknown."""
        try:
            return self.of(campaign).candidates[folded(code)]
        except KeyError:
            raise CandidateUnknown(f"Campaign {campaign} has no candidate {code[:40]!r}.") from None

    async def run(self, tell: Callable[[str], None]) -> None:
        """Refresh for ever, and `tell` of each campaign that has changed."""
        began = time.monotonic()
        # Computed when scraped: a read that hangs for 30 s must not leave the age of the one before.
        metrics.SNAPSHOT_AGE_SECONDS.set_function(lambda: time.monotonic() - (self._read_at or began))
        away = Trouble(_log, "the last counts go on being served until Postgres answers", over="Postgres answers again")
        while True:
            started = time.perf_counter()
            try:
                for campaign in await self.refresh():
                    tell(campaign)
            except LedgerAway as error:
                away.lasts(str(error))
            else:
                away.is_over()
            took_s = time.perf_counter() - started
            metrics.SNAPSHOT_SECONDS.observe(took_s)
            # A Postgres so slow that a reading takes longer has half of its time for others.
            await asyncio.sleep(max(took_s, SNAPSHOT_EVERY_S - took_s))

    async def refresh(self) -> list[str]:
        """Read all published campaigns, and render those whose numbers or rules changed; returns whose event did."""
        published: dict[str, Published] = {}
        self._lag_s = await self._ledger.lag_s()
        tallies = await self._ledger.tallies.all()
        for stored_campaign in await self._ledger.campaigns.all():
            if stored_campaign.state is not State.draft:
                # Nothing of a hidden campaign may change with its likes, not even how often it is rendered (`as_of`).
                tally = {} if stored_campaign.hidden else tallies.get(stored_campaign.number, {})
                published[stored_campaign.id] = await self._current(stored_campaign, tally)
        self._list = Rendered.of(encode(documents.CampaignList([each.campaign for each in published.values()])))
        before, self._published = self._published, published
        self._read_at = time.monotonic() - self._lag_s
        return [
            campaign
            for campaign, now in published.items()
            if campaign in before and before[campaign].event.etag != now.event.etag
        ]

    def _require_read(self) -> None:
        if not self._read_at:
            raise ResultsUnavailable("The results have not been read from Postgres yet; ask again.")

    async def _current(self, campaign: StoredCampaign, tally: Mapping[int, Tally]) -> Published:
        known = self._published.get(campaign.id)
        if known is not None and known.version == campaign.version and known.tally == tally:
            rendered_ago_s = (self._as_of() - known.as_of).total_seconds()
            if campaign.state is State.sealed or rendered_ago_s < RENDER_AGAIN_S:
                return known
        return await self._publish(campaign, tally)

    async def _publish(self, campaign: StoredCampaign, tally: Mapping[int, Tally]) -> Published:
        seal = await self._ledger.campaigns.seal(campaign) if campaign.state is State.sealed else None
        candidates = await self._roster(campaign)
        numbers = numbers_of(campaign, seal, candidates, tally, self._as_of())
        hours = None if numbers.by_index is None else await self._ledger.tallies.hours(campaign)
        if numbers.likes is not None:
            metrics.PUBLISHED_LIKES.labels(campaign.id).set(numbers.likes)
        return render(campaign, candidates, numbers, hours, tally)

    def _as_of(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=self._lag_s)

    async def _roster(self, campaign: StoredCampaign) -> Mapping[int, Candidate]:
        # With stories up to 100 MB, and counts change four times a second: read once a version, which imports raise.
        version, candidates = self._rosters.get(campaign.number, (0, {}))
        if version != campaign.version:
            candidates = await self._ledger.campaigns.candidates(campaign)
            self._rosters[campaign.number] = (campaign.version, candidates)
        return candidates


def numbers_of(
    campaign: StoredCampaign,
    seal: Seal | None,
    candidates: Mapping[int, Candidate],
    tally: Mapping[int, Tally],
    as_of: datetime,
) -> Numbers:
    """What may be shown of a campaign: the sealed tally, the counts as of this instant, or nothing. Pure."""
    if seal is not None:
        return Numbers(seal.tallies, seal.likes, seal.people, seal.sealed_at, sealed=True, digest=seal.digest)
    if campaign.hidden:
        return Numbers(None, None, None, as_of, sealed=False)
    people = tally.get(0, ZERO).people
    # An estimate may err above the likes, of which every person has at least one.
    by_index = {i: Tally(t.likes, min(t.people, t.likes)) for i in candidates if (t := tally.get(i, ZERO))}
    ranks = ranked({index: found.likes for index, found in by_index.items()})
    likes = sum(found.likes for found in by_index.values())
    numbered = {index: (ranks[index], found) for index, found in by_index.items()}
    return Numbers(numbered, likes, min(people, likes), as_of, sealed=False)


def render(
    campaign: StoredCampaign,
    candidates: Mapping[int, Candidate],
    numbers: Numbers,
    hours: list[tuple[datetime, int]] | None,
    tally: Mapping[int, Tally],
) -> Published:
    """Render every document of a campaign. Pure."""
    id_, rows, summary = campaign.id, _rows(candidates, numbers), _summary(campaign, len(candidates))
    stories = {candidate.code: candidate.story for candidate in candidates.values()}
    quality: dict[str, Any] = {
        "people_estimated": not numbers.sealed and numbers.people is not None,
        "sealed": numbers.sealed,
        "version": campaign.version,
        "as_of": numbers.as_of.isoformat(),
    }
    totals = {"likes": numbers.likes, "people": numbers.people, **quality}

    def alone(row: documents.ResultRow) -> Rendered:
        fields = msgspec.structs.asdict(row)
        return _rendered(documents.CandidateResult(id_, story=stories[row.code], **fields, **quality))

    counts = {} if numbers.by_index is None else {r.code: documents.Standing(r.rank, r.likes, r.people) for r in rows}
    tally_rows = [documents.TallyRow(r.rank, r.code, r.name, r.likes, r.people) for r in rows]
    return Published(
        version=campaign.version,
        tally=tally,
        as_of=numbers.as_of,
        hidden=numbers.by_index is None,
        campaign=summary,
        summary=Rendered.of(encode(summary)),
        event=_rendered(documents.ResultsEvent(counts, **totals)),
        documents={
            "results": _rendered(documents.Results(id_, summary.state, summary.opens, summary.closes, rows, **totals)),
            "timeline": Rendered.of(encode(_timeline(campaign, hours))),
            "tally.csv": Rendered.of(_csv(tally_rows), media_type="text/csv; charset=utf-8"),
            "tally.json": _rendered(documents.TallyDocument(id_, tally_rows, numbers.digest, **totals)),
        },
        candidates=_RenderedWhenRead({row.code: row for row in rows}, alone),
    )


class _RenderedWhenRead(Mapping[str, Rendered]):
    """Candidates' own documents: of 5,000 with their stories few are read before the numbers change again."""

    def __init__(
        self, rows: Mapping[str, documents.ResultRow], render_row: Callable[[documents.ResultRow], Rendered]
    ) -> None:
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


def _rendered(document: documents.Measured) -> Rendered:
    """The tag is made of all but `as_of`, the last field: the same numbers read later have the same tag."""
    content = encode(document)
    return Rendered.of(content, tagged=content.removesuffix(b',"as_of":' + encode(document.as_of) + b"}") + b"}")


def _rows(candidates: Mapping[int, Candidate], numbers: Numbers) -> list[documents.ResultRow]:
    """By rank, then by code; by code alone while hidden: the order itself must not tell who leads."""
    rows = []
    for index, c in candidates.items():
        rank, tally = (None, None) if numbers.by_index is None else numbers.by_index.get(index, (None, ZERO))
        if not numbers.likes:
            rank = None  # nobody is first before the first like
        likes, people = (None, None) if tally is None else (tally.likes, tally.people)
        told = (c.code, c.name, spelled(c.name), c.kind, c.district, c.category, c.summary, c.photo)
        rows.append(documents.ResultRow(rank, *told, likes, people))
    return sorted(rows, key=lambda row: (row.rank is None, row.rank or 0, row.code))


def _summary(campaign: StoredCampaign, candidates: int) -> documents.CampaignSummary:
    # What the struct does not declare (shards, expected voters, the publishers' origins) is not told.
    rules = {**campaign.rules.model_dump(mode="json"), "publishers": campaign.rules.publisher_codes}
    told = {**rules, "state": campaign.state.value, "candidates": candidates, "version": campaign.version}
    return msgspec.convert(told, documents.CampaignSummary)


def _timeline(campaign: StoredCampaign, hours: list[tuple[datetime, int]] | None) -> documents.Timeline:
    rules = campaign.rules
    if hours is None:
        return documents.Timeline(campaign.id, rules.timezone, None, None)
    local = [(hour.astimezone(rules.zone), likes) for hour, likes in hours]
    days: Counter[str] = Counter()
    for hour, likes in local:
        days[hour.date().isoformat()] += likes
    hour_rows = [documents.Hour(hour.isoformat(), likes) for hour, likes in local]
    day_rows = [documents.Day(day, likes) for day, likes in days.items()]
    return documents.Timeline(campaign.id, rules.timezone, hour_rows, day_rows)


def _csv(rows: list[documents.TallyRow]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(documents.TallyRow.__struct_fields__)
    for row in rows:
        writer.writerow(_spreadsheet_safe(cell) for cell in msgspec.structs.astuple(row))
    return text.getvalue().encode("utf-8-sig")  # the mark lets Excel read the Chinese names


def _spreadsheet_safe(cell: Any) -> Any:
    # A name that begins like a formula would run in the auditor's spreadsheet; East Asian ones take wide signs too.
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_SIGNS) else cell
