"""Writes web/shared/documents.d.ts, the types of what both APIs answer, from their OpenAPI documents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from results_api.app import create_app as create_results_app
from results_api.settings import ResultsSettings
from vote_api.app import create_app as create_vote_app
from vote_api.settings import VoteSettings

FILE = Path(__file__).parents[2] / "services" / "results_api" / "web" / "shared" / "documents.d.ts"
HEAD = "/** Owns the types of what both APIs answer; `make format` writes it from their OpenAPI documents. */\n"
PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}

Schema = dict[str, Any]


def results_app() -> Any:
    """The results API without a ledger: enough for its files and its OpenAPI document."""
    return create_results_app(ResultsSettings(), streams_max=1)


def types() -> str:
    """The whole file."""
    schemas: dict[str, Schema] = {}
    for app in (results_app(), create_vote_app(VoteSettings())):
        for name, schema in _public_schemas(_openapi(app)).items():
            if schemas.setdefault(name, schema) != schema:
                raise ValueError(f"both APIs have a document {name}, and the two differ")
    return "\n".join([HEAD, *(_declaration(name, schemas[name]) for name in sorted(schemas))])


def _openapi(app: Any) -> Schema:
    while not isinstance(app, FastAPI):  # what stands in front of it is plain ASGI
        app = app._app
    return app.openapi()


def _public_schemas(document: Schema) -> dict[str, Schema]:
    """Everything that the addresses under /v1 take or give, and what that consists of."""
    schemas: dict[str, Schema] = document["components"]["schemas"]
    found: dict[str, Schema] = {}
    wanted = [operations for path, operations in document["paths"].items() if path.startswith("/v1/")]
    while wanted:
        names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(wanted))) - found.keys()
        found |= {name: schemas[name] for name in names}
        wanted = [schemas[name] for name in names]
    return {name: schema for name, schema in found.items() if "Validation" not in name}  # FastAPI's own, never answered


def _declaration(name: str, schema: Schema) -> str:
    if "properties" not in schema:
        return f"{_comment(schema)}export type {name} = {_type(schema)};\n"
    required = schema.get("required", [])
    fields = [
        f"  {field}{'' if field in required else '?'}: {_type(inner)};\n"
        for field, inner in schema["properties"].items()
    ]
    return f"{_comment(schema)}export interface {name} {{\n{''.join(fields)}}}\n"


def _comment(schema: Schema) -> str:
    description = " ".join(schema.get("description", "").split())
    return f"/** {description} */\n" if description else ""


def _type(schema: Schema) -> str:  # noqa: PLR0911 - one return a kind of schema
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " | ".join(_type(inner) for inner in schema["anyOf"])
    if "prefixItems" in schema:
        return f"[{', '.join(_type(inner) for inner in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"Array<{_type(schema['items'])}>"
    if schema.get("type") == "object":
        return f"Record<string, {_type(schema['additionalProperties'])}>"
    return PRIMITIVES[schema["type"]]


if __name__ == "__main__":
    FILE.write_text(types(), encoding="utf-8")
