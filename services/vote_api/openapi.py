"""The OpenAPI document of the vote API, with the like route that is answered before ASGI."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from dianzan.domain import errors
from dianzan.http import openapi
from vote_api import body, documents

described = APIRouter()


@described.post(
    "/v1/campaigns/{campaign}/likes",
    responses=openapi.responses(
        documents.LikeAnswer,
        *body.BODY_ERRORS,
        errors.MethodNotAllowed,
        *body.TOKEN_ERRORS,
        errors.ClassNotAllowed,
        errors.CampaignUnknown,
        errors.NotOpen,
        errors.Closed,
        errors.StoreUnavailable,
        errors.StoreUnsafe,
        errors.ClockSkewed,
        errors.Overloaded,
        errors.NoRoom,
        errors.RulesMoved,
        errors.Unavailable,
    ),
    openapi_extra={
        "security": [{"voter": []}, {}],
        "requestBody": {"required": True, "content": openapi.content(documents.LikeRequest, *body.MEDIA_TYPES)},
    },
    tags=["likes"],
    summary="Like candidates",
)
async def like(campaign: str) -> None:
    """Counts likes: durable before the 200, once per voter, candidate and window, however often it is sent.

    A 503 means "unknown or not done": send the same request again. With `text/plain` and the token in the body a
    browser sends no preflight.
    """


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, built once; the like route is described here and served by likes/protocol.py."""
    if app.openapi_schema is None:
        routes = [*described.routes, *app.routes]
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=routes)
        openapi.complete(document, documents)
        document["components"]["securitySchemes"] = {"voter": {"type": "http", "scheme": "bearer"}}
        app.openapi_schema = document
    return app.openapi_schema
