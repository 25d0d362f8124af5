"""RFC 9457 problem documents: the one place where an error becomes bytes, headers and OpenAPI text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, TypeVar

import msgspec

from dianzan.domain.errors import ApiError, BadRequest, MethodNotAllowed, NotFound

MEDIA_TYPE = "application/problem+json"
FrameworkResponse = TypeVar("FrameworkResponse")


class Problem(msgspec.Struct):
    """What went wrong, as RFC 9457 has it."""

    type: Annotated[str, msgspec.Meta(description="urn:dianzan:problem:CODE")]
    title: str
    status: int
    detail: Annotated[str, msgspec.Meta(description="What happened and what to do, for people.")]
    code: Annotated[str, msgspec.Meta(description="Stable, for programs.")]


_encode = msgspec.json.Encoder().encode
SCHEMA: dict[str, Any] = msgspec.json.schema_components([Problem], ref_template="{name}")[1]["Problem"]


def body(error: ApiError) -> bytes:
    """The problem document of an error."""
    return _encode(Problem(f"urn:dianzan:problem:{error.code}", error.title, error.status, error.detail, error.code))


def headers(error: ApiError) -> dict[str, str]:
    """Headers beside the document: Retry-After where asking again makes sense."""
    found = {"cache-control": "no-store"}
    if error.retry_after_s is not None:
        found["retry-after"] = str(error.retry_after_s)
    if isinstance(error, MethodNotAllowed) and error.allow:
        found["allow"] = error.allow
    if error.status == 401:
        found["www-authenticate"] = "Bearer"
    return found


def translate(error: Exception) -> ApiError:
    """An ApiError for whatever a web framework raised: its own, a validation error, or a plain HTTP status."""
    if isinstance(error, ApiError):
        return error
    status, detail = getattr(error, "status_code", 400), str(getattr(error, "detail", "")) or str(error)
    if status == 404:
        return NotFound("There is nothing at this address; see /docs.")
    if status == 405:
        allow = (getattr(error, "headers", None) or {}).get("Allow", "")
        return MethodNotAllowed("This address does not take that method; see /docs.", allow=allow)
    problems = getattr(error, "errors", None)
    if callable(problems):
        detail = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems())
    return BadRequest(detail)


def handler(
    response: Callable[..., FrameworkResponse],
) -> Callable[[object, Exception], Awaitable[FrameworkResponse]]:
    """What a web framework calls with an error that a route has raised; `response` is the framework's own class."""

    async def on_error(_request: object, raised: Exception) -> FrameworkResponse:
        error = translate(raised)
        return response(body(error), error.status, headers=headers(error), media_type=MEDIA_TYPE)

    return on_error


def responses(*errors: type[ApiError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` that name every status and problem code of a route."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({error.status for error in errors}):
        codes = [error for error in errors if error.status == status]
        found[status] = {
            "description": "; ".join(f"`{error.code}`: {_sentence(error)}" for error in codes),
            "content": {MEDIA_TYPE: {"schema": _schema_of(codes)}},
        }
        if any(error.retry_after_s is not None for error in codes):
            found[status]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return found


def _sentence(error: type[ApiError]) -> str:
    return (error.__doc__ or error.title).partition("\n")[0]


def _schema_of(errors: Iterable[type[ApiError]]) -> dict[str, Any]:
    code = {"type": "string", "enum": [error.code for error in errors]}
    return {**SCHEMA, "properties": {**SCHEMA["properties"], "code": code}}
