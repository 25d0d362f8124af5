"""The OpenAPI document of the results API, with the routes that reads.py serves in front of FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi

from dianzan.domain import errors
from dianzan.http import openapi, problem
from results_api import documents

described = APIRouter()


def _read(
    address: str, content: dict[str, Any], *raised: type[errors.ApiError], tag: str = "results"
) -> Callable[..., Any]:
    unknown = (errors.CampaignUnknown,) if address else ()
    return described.get(
        f"/v1/campaigns{address}",
        response_class=Response,
        responses={200: {"content": content}, **problem.responses(*unknown, errors.ResultsUnavailable, *raised)},
        tags=[tag],
    )


@_read("", openapi.content(documents.CampaignList))
async def campaigns() -> None:
    """All published campaigns."""


@_read("/{campaign}", openapi.content(documents.CampaignSummary))
async def campaign(campaign: str) -> None:
    """The public rules and state of a campaign."""


@_read("/{campaign}/results", openapi.content(documents.Results))
async def results(campaign: str) -> None:
    """All candidates with likes and people, at most two seconds behind the votes."""


@_read("/{campaign}/candidates/{code}", openapi.content(documents.CandidateResult), errors.CandidateUnknown)
async def candidate(campaign: str, code: str) -> None:
    """One candidate with its story and numbers."""


@_read("/{campaign}/timeline", openapi.content(documents.Timeline))
async def timeline(campaign: str) -> None:
    """Likes per hour and per day in the campaign's time zone."""


@_read("/{campaign}/tally.csv", {"text/csv": {}}, errors.ResultsHidden, tag="audit")
async def tally_csv(campaign: str) -> None:
    """The tally as CSV (UTF-8 with a mark, for spreadsheets). 403 while results are hidden."""


@_read("/{campaign}/tally.json", openapi.content(documents.TallyDocument), errors.ResultsHidden, tag="audit")
async def tally_json(campaign: str) -> None:
    """The tally as JSON; final once `sealed`. 403 while results are hidden."""


@_read("/{campaign}/results/stream", openapi.content(documents.ResultsEvent, "text/event-stream"), errors.Unavailable)
async def stream(campaign: str) -> None:
    """Server-sent events `results`: totals and `counts` (code -> [rank, likes, people]), on every change."""


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, built once; what is described here is served by reads.py."""
    if app.openapi_schema is None:
        routes = [*described.routes, *app.routes]
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=routes)
        app.openapi_schema = openapi.complete(document, documents)
    return app.openapi_schema
