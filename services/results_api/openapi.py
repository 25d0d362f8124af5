"""The OpenAPI document of the results API, with the routes that reads.py serves in front of FastAPI."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from dianzan.domain.errors import CampaignUnknown, CandidateUnknown, ResultsHidden, ResultsUnavailable, Unavailable
from dianzan.http.problem import responses


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


described = APIRouter()
UNKNOWN = (CampaignUnknown, ResultsUnavailable)


@described.get("/v1/campaigns", response_model=CampaignList, responses=responses(ResultsUnavailable), tags=["results"])
async def campaigns() -> None:
    """All published campaigns."""


@described.get(
    "/v1/campaigns/{campaign}", response_model=CampaignSummary, responses=responses(*UNKNOWN), tags=["results"]
)
async def campaign(campaign: str) -> None:
    """The public rules and state of a campaign."""


@described.get(
    "/v1/campaigns/{campaign}/results", response_model=Results, responses=responses(*UNKNOWN), tags=["results"]
)
async def results(campaign: str) -> None:
    """All candidates with likes and people, at most two seconds behind the votes."""


@described.get(
    "/v1/campaigns/{campaign}/candidates/{code}",
    response_model=CandidateResult,
    responses=responses(*UNKNOWN, CandidateUnknown),
    tags=["results"],
)
async def candidate(campaign: str, code: str) -> None:
    """One candidate with its story and numbers."""


@described.get(
    "/v1/campaigns/{campaign}/timeline", response_model=Timeline, responses=responses(*UNKNOWN), tags=["results"]
)
async def timeline(campaign: str) -> None:
    """Likes per hour and per day in the campaign's time zone."""


@described.get(
    "/v1/campaigns/{campaign}/tally.csv",
    response_class=Response,
    responses={**responses(*UNKNOWN, ResultsHidden), 200: {"content": {"text/csv": {}}}},
    tags=["audit"],
)
async def tally_csv(campaign: str) -> None:
    """The tally as CSV (UTF-8 with a mark, for spreadsheets). 403 while results are hidden."""


@described.get(
    "/v1/campaigns/{campaign}/tally.json",
    response_model=TallyDocument,
    responses=responses(*UNKNOWN, ResultsHidden),
    tags=["audit"],
)
async def tally_json(campaign: str) -> None:
    """The tally as JSON; final once `sealed`. 403 while results are hidden."""


@described.get(
    "/v1/campaigns/{campaign}/results/stream",
    response_class=Response,
    responses={**responses(*UNKNOWN, Unavailable), 200: {"content": {"text/event-stream": {}}}},
    tags=["results"],
)
async def stream(campaign: str) -> None:
    """Server-sent events `results`: totals and `counts` (code -> [rank, likes, people]), on every change."""


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, built once; what is described here is served by reads.py."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=[*described.routes, *app.routes],
        )
    return app.openapi_schema
