"""Documents as bytes and as OpenAPI text: each is one msgspec struct, declared in its service's documents.py."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec

from dianzan.domain.errors import ApiError
from dianzan.http import problem

encode = msgspec.json.Encoder().encode

MEDIA_TYPE = "application/json"
_REFERENCE = "#/components/schemas/{name}"


def content(document: type[msgspec.Struct], *media_types: str) -> dict[str, Any]:
    """The OpenAPI `content` of a body that is this document."""
    reference = {"$ref": _REFERENCE.format(name=document.__name__)}
    return {media_type: {"schema": reference} for media_type in media_types or (MEDIA_TYPE,)}


def responses(answer: type[msgspec.Struct], *errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI `responses` of a route: its answer, and every status and problem code."""
    return {200: {"content": content(answer)}, **problem.responses(*errors)}


def complete(described: dict[str, Any], documents: ModuleType) -> dict[str, Any]:
    """Give an OpenAPI document the schemas of a service's documents.

    FastAPI tells of a 422 for every route with a parameter; ours answer 400 with a problem document instead.
    """
    structs = [
        declared
        for declared in vars(documents).values()
        if isinstance(declared, msgspec.StructMeta) and declared.__module__ == documents.__name__
    ]
    _, schemas = msgspec.json.schema_components(structs, ref_template=_REFERENCE)
    described["components"] = {"schemas": schemas}
    for path in described["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    return described
