"""The OpenAPI document of the vote API, with the like route that is answered before ASGI."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from dianzan.http.problem import responses
from vote_api.routes import LIKE_ERRORS, LikeAnswer, LikeRequest


async def like(campaign: str) -> None:
    """Counts likes: durable before the 200, once per voter, candidate and window, however often it is sent.

    A 503 means "unknown or not done": send the same request again. With `text/plain` and the token in the body a
    browser sends no preflight.
    """


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, built once; the like route is described here and served by likes.py."""
    if app.openapi_schema is None:
        described = APIRoute(
            "/v1/campaigns/{campaign}/likes",
            like,
            methods=["POST"],
            response_model=LikeAnswer,
            responses=responses(*LIKE_ERRORS),
            tags=["likes"],
            summary="Like candidates",
            openapi_extra={
                "security": [{"voter": []}, {}],
                "requestBody": {
                    "required": True,
                    "content": {
                        kind: {"schema": LikeRequest.model_json_schema()} for kind in ("application/json", "text/plain")
                    },
                },
            },
        )
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=[described, *app.routes]
        )
        document.setdefault("components", {})["securitySchemes"] = {"voter": {"type": "http", "scheme": "bearer"}}
        for path in document["paths"].values():
            for operation in path.values():
                _drop_unused_422(operation["responses"])
        app.openapi_schema = document
    return app.openapi_schema


def _drop_unused_422(found: dict[str, Any]) -> None:
    # FastAPI lists 422 for every route with a parameter; ours answer 400 with a problem document instead.
    found.pop("422", None)
