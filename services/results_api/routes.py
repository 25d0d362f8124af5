"""The results API's routes: documents rendered by the snapshot, the stream of changes, health and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from dianzan import metrics
from dianzan.errors import CampaignUnknown, CandidateUnknown, ResultsHidden, ResultsUnavailable, Unavailable
from dianzan.limits import STREAMS_MAX
from dianzan.problem import responses
from results_api.changes import Changes, within
from results_api.settings import ResultsSettings
from results_api.snapshot import Rendered, Snapshots

router = APIRouter()

REPEAT_S = 15.0  # in quiet times too: proxies keep the stream open, and the reader sees a fresh `as_of`
READY_WITHIN_S = 10.0
# A second of caching takes reloading crowds off this process; no longer, since likes are shown within two seconds.
SHORT = "public, max-age=1"


class CampaignSummary(BaseModel):
    """The public rules and state of a campaign."""

    id: str
    title: str
    opens: str
    closes: str
    timezone: str
    window: Literal["day", "campaign"]
    likes_per_window: int
    voter_classes: list[str]
    results: Literal["live", "hidden"]
    publishers: list[str]
    state: Literal["published", "closed", "sealed"]
    candidates: int


class CampaignList(BaseModel):
    """All published campaigns, oldest first."""

    campaigns: list[CampaignSummary]


class ResultRow(BaseModel):
    """One candidate; rank, likes and people are null while results are hidden."""

    rank: int | None
    code: str
    name: str
    kind: Literal["person", "team"]
    district: str
    category: str
    summary: str
    photo: str
    likes: int | None
    people: int | None


class Quality(BaseModel):
    """How good the numbers are: `people` is an estimate with an error near 1% until sealed, then exact."""

    people_estimated: bool
    sealed: bool
    as_of: str


class Totals(Quality):
    """Likes, and people (distinct voters), of the whole campaign."""

    likes: int | None
    people: int | None


class Results(Totals):
    """All candidates by rank; by code while results are hidden."""

    campaign: str
    results: list[ResultRow]


class CandidateResult(ResultRow, Quality):
    """One candidate with its story; the numbers are the candidate's own."""

    campaign: str
    story: str


class TallyRow(BaseModel):
    """One line of the tally."""

    rank: int | None
    code: str
    name: str
    likes: int | None
    people: int | None


class TallyDocument(Totals):
    """The tally; final once `sealed` is true."""

    campaign: str
    tally: list[TallyRow]


class Hour(BaseModel):
    """Likes of one hour of the campaign's time zone."""

    hour: str
    likes: int


class Day(BaseModel):
    """Likes of one day of the campaign's time zone."""

    day: str
    likes: int


class Timeline(BaseModel):
    """Likes per hour and day; those without likes are left out; null while results are hidden."""

    campaign: str
    timezone: str
    hours: list[Hour] | None
    days: list[Day] | None


async def snapshots_of(request: Request) -> Snapshots:
    """The published view."""
    snapshots: Snapshots = request.app.state.snapshots
    return snapshots


View = Annotated[Snapshots, Depends(snapshots_of)]
UNKNOWN = (CampaignUnknown, ResultsUnavailable)


def _answer(request: Request, kind: str, rendered: Rendered, media_type: str = "application/json") -> Response:
    metrics.READS.labels(kind).inc()
    # Said to everyone, not only to readers from other sites, since a cache between keeps one answer for both.
    headers = {"etag": rendered.etag, "cache-control": SHORT, "access-control-allow-origin": "*"}
    asked = request.headers.get("if-none-match", "")
    if rendered.etag in asked or asked.strip() == "*":
        return Response(status_code=304, headers=headers)
    return Response(rendered.body, media_type=media_type, headers=headers)


@router.get("/v1/campaigns", response_model=CampaignList, responses=responses(ResultsUnavailable), tags=["results"])
async def campaigns(request: Request, view: View) -> Response:
    """All published campaigns."""
    return _answer(request, "campaigns", view.campaign_list)


@router.get("/v1/campaigns/{campaign}", response_model=CampaignSummary, responses=responses(*UNKNOWN), tags=["results"])
async def campaign(campaign: str, request: Request, view: View) -> Response:
    """The public rules and state of a campaign."""
    return _answer(request, "campaign", view.of(campaign).summary)


@router.get("/v1/campaigns/{campaign}/results", response_model=Results, responses=responses(*UNKNOWN), tags=["results"])
async def results(campaign: str, request: Request, view: View) -> Response:
    """All candidates with likes and people, at most two seconds behind the votes."""
    return _answer(request, "results", view.of(campaign).results)


@router.get(
    "/v1/campaigns/{campaign}/candidates/{code}",
    response_model=CandidateResult,
    responses=responses(*UNKNOWN, CandidateUnknown),
    tags=["results"],
)
async def candidate(campaign: str, code: str, request: Request, view: View) -> Response:
    """One candidate with its story and numbers."""
    return _answer(request, "candidate", view.candidate(campaign, code))


@router.get(
    "/v1/campaigns/{campaign}/timeline", response_model=Timeline, responses=responses(*UNKNOWN), tags=["results"]
)
async def timeline(campaign: str, request: Request, view: View) -> Response:
    """Likes per hour and per day in the campaign's time zone."""
    return _answer(request, "timeline", view.of(campaign).timeline)


@router.get(
    "/v1/campaigns/{campaign}/tally.csv",
    response_class=Response,
    responses={**responses(*UNKNOWN, ResultsHidden), 200: {"content": {"text/csv": {}}}},
    tags=["audit"],
)
async def tally_csv(campaign: str, request: Request, view: View) -> Response:
    """The tally as CSV (UTF-8 with a mark, for spreadsheets). 403 while results are hidden."""
    published = view.of(campaign)
    if published.hidden:
        raise ResultsHidden("The tally is published when the campaign is sealed.")
    return _answer(request, "tally.csv", published.tally_csv, "text/csv; charset=utf-8")


@router.get(
    "/v1/campaigns/{campaign}/tally.json",
    response_model=TallyDocument,
    responses=responses(*UNKNOWN, ResultsHidden),
    tags=["audit"],
)
async def tally_json(campaign: str, request: Request, view: View) -> Response:
    """The tally as JSON; final once `sealed`. 403 while results are hidden."""
    published = view.of(campaign)
    if published.hidden:
        raise ResultsHidden("The tally is published when the campaign is sealed.")
    return _answer(request, "tally.json", published.tally_json)


@router.get(
    "/v1/campaigns/{campaign}/results/stream",
    response_class=StreamingResponse,
    responses={**responses(*UNKNOWN, Unavailable), 200: {"content": {"text/event-stream": {}}}},
    tags=["results"],
)
async def stream(campaign: str, request: Request, view: View) -> StreamingResponse:
    """Server-sent events `results`: totals and `counts` (code -> [rank, likes, people]), on every change."""
    view.of(campaign)
    if request.app.state.streams >= STREAMS_MAX:
        raise Unavailable("Too many open streams here; poll the results instead.", retry_after_s=30)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(campaign, request, view), media_type="text/event-stream", headers=headers)


async def _events(campaign: str, request: Request, view: Snapshots) -> AsyncIterator[bytes]:
    state = request.app.state
    state.streams += 1
    metrics.STREAMS.set(state.streams)
    changes: Changes = state.changes
    try:
        yield b"retry: 2000\n\n"
        while not changes.stopping:
            following = changes.next_of(campaign)
            event = view.of(campaign).event
            yield b"event: results\nid: " + event.etag.strip('"').encode() + b"\ndata: " + event.body + b"\n\n"
            await within(following, REPEAT_S)
    finally:
        state.streams -= 1
        metrics.STREAMS.set(state.streams)


@router.get("/web/config.json", include_in_schema=False)
async def config(request: Request) -> dict[str, str]:
    """Where the vote API is, for the page and the button; a port alone (`:8000`) is one of this API's own host."""
    settings: ResultsSettings = request.app.state.settings
    return {"vote_url": settings.vote_url}


@router.get("/healthz", tags=["operations"])
async def healthz() -> dict[str, str]:
    """Answers as long as the process serves."""
    return {"status": "ok"}


@router.get("/readyz", tags=["operations"], responses={503: {"description": "No fresh counts."}})
async def readyz(view: View) -> JSONResponse:
    """503 until counts are read, and while they are older than ten seconds (they go on being served)."""
    age_s = view.age_s
    ready = age_s is not None and age_s < READY_WITHIN_S
    content: dict[str, Any] = {"ready": ready, "age_s": age_s if age_s is None else round(age_s, 3)}
    return JSONResponse(content, status_code=200 if ready else 503, headers={} if ready else {"retry-after": "1"})


@router.get("/metrics", tags=["operations"], response_class=Response)
async def prometheus() -> Response:
    """The metrics of this process in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
