"""Writes web/shared/documents.d.ts, the types of what both APIs answer, from their OpenAPI documents."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from results_api.app import create_app as create_results_app
from results_api.settings import ResultsSettings
from vote_api.app import create_app as create_vote_app
from vote_api.settings import VoteSettings

FILE = Path(__file__).parents[2] / "services" / "results_api" / "web" / "shared" / "documents.d.ts"
HEAD = "/** Owns the types of what both APIs answer; `make format` writes it from their OpenAPI documents. */\n"
PRIMITIVES = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}

Schema = dict[str, Any]


async def types() -> str:
    """The whole file."""
    schemas: dict[str, Schema] = {}
    for app in (create_results_app(ResultsSettings(), streams_max=1), create_vote_app(VoteSettings())):
        for name, schema in (await _schemas(app)).items():
            if schemas.setdefault(name, schema) != schema:
                raise ValueError(f"both APIs have a document {name}, and the two differ")
    return "\n".join([HEAD, *(_interface(name, schemas[name]) for name in sorted(schemas) if "Validation" not in name)])


async def _schemas(app: Any) -> dict[str, Schema]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        document = (await client.get("/openapi.json")).json()
    found: dict[str, Schema] = document["components"]["schemas"]
    return found


def _interface(name: str, schema: Schema) -> str:
    required = schema.get("required", [])
    fields = [
        f"  {field}{'' if field in required else '?'}: {_type(inner)};\n"
        for field, inner in schema.get("properties", {}).items()
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
    FILE.write_text(asyncio.run(types()), encoding="utf-8")
