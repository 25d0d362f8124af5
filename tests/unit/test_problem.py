"""Errors as problem documents: stable codes, Retry-After where asking again helps, nothing else to guess."""

import json

import pytest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from dianzan.domain import errors
from dianzan.domain.errors import ApiError
from dianzan.http import problem


def every_error(base: type[ApiError] = ApiError) -> list[type[ApiError]]:
    return [found for child in base.__subclasses__() for found in (child, *every_error(child))]


ERRORS = sorted(every_error(), key=lambda error: error.code)


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after_s"),
    [
        (errors.BadRequest, 400, "bad_request", None),
        (errors.TokenMissing, 401, "token_missing", None),
        (errors.TokenInvalid, 401, "token_invalid", None),
        (errors.TokenExpired, 401, "token_expired", None),
        (errors.ClassNotAllowed, 403, "class_not_allowed", None),
        (errors.ResultsHidden, 403, "results_hidden", None),
        (errors.CampaignUnknown, 404, "campaign_unknown", None),
        (errors.CandidateUnknown, 404, "candidate_unknown", None),
        (errors.NotFound, 404, "not_found", None),
        (errors.MethodNotAllowed, 405, "method_not_allowed", None),
        (errors.NotOpen, 409, "not_open", None),
        (errors.Closed, 409, "closed", None),
        (errors.BodyTooLarge, 413, "body_too_large", None),
        (errors.MediaTypeUnsupported, 415, "media_type_unsupported", None),
        (errors.TooManyRequests, 429, "too_many_requests", 60),
        (errors.StoreUnavailable, 503, "store_unavailable", 1),
        (errors.StoreUnsafe, 503, "store_unsafe", 10),
        (errors.ClockSkewed, 503, "clock_skewed", 5),
        (errors.Overloaded, 503, "overloaded", 1),
        (errors.NoRoom, 503, "store_full", 5),
        (errors.ResultsUnavailable, 503, "results_unavailable", 1),
        (errors.RulesMoved, 503, "rules_moved", 1),
    ],
)
def test_what_an_error_is_to_a_client(error: type[ApiError], status: int, code: str, retry_after_s: int | None) -> None:
    raised = error("Do this.")
    assert json.loads(problem.body(raised)) == {
        "type": f"urn:dianzan:problem:{code}",
        "title": error.title,
        "status": status,
        "detail": "Do this.",
        "code": code,
    }
    assert problem.headers(raised).get("retry-after") == (None if retry_after_s is None else str(retry_after_s))


def test_codes_are_unique_and_safe_to_switch_on() -> None:
    codes = [error.code for error in ERRORS]
    assert len(set(codes)) == len(codes)
    assert all(code.isascii() and code.islower() and code.isidentifier() for code in codes)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_headers_say_when_to_ask_again_and_that_nothing_is_kept(error: type[ApiError]) -> None:
    found = problem.headers(error("…"))
    assert found["cache-control"] == "no-store"
    assert ("retry-after" in found) == (error.status in (429, 503))
    assert ("www-authenticate" in found) == (error.status == 401)


def test_an_error_may_name_its_own_wait() -> None:
    assert problem.headers(errors.TooManyRequests("…", retry_after_s=7))["retry-after"] == "7"
    assert problem.headers(errors.TooManyRequests("…"))["retry-after"] == "60"


def test_a_detail_is_kept_in_any_language() -> None:
    assert "候选人".encode() in problem.body(errors.BadRequest("候选人"))


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (errors.Closed("…"), 409, "closed"),
        (HTTPException(404), 404, "not_found"),
        (HTTPException(405), 405, "method_not_allowed"),
        (HTTPException(400, "There was an error parsing the body"), 400, "bad_request"),
        (HTTPException(422), 400, "bad_request"),
        (RequestValidationError([{"loc": ("query", "page"), "msg": "not a number"}]), 400, "bad_request"),
        (ValueError("wrong"), 400, "bad_request"),
    ],
)
def test_what_a_framework_raises_is_translated(raised: Exception, status: int, code: str) -> None:
    found = problem.translate(raised)
    assert (found.status, found.code) == (status, code)
    assert found.detail


def test_a_validation_error_names_every_place() -> None:
    places = [{"loc": ("query", "page"), "msg": "not a number"}, {"loc": ("path", "id"), "msg": "too long"}]
    assert problem.translate(RequestValidationError(places)).detail == "query.page: not a number; path.id: too long"


def test_openapi_names_every_status_and_code_of_a_route() -> None:
    found = problem.responses(errors.Closed, errors.NotOpen, errors.StoreUnavailable, errors.BadRequest)
    codes = {
        status: response["content"][problem.MEDIA_TYPE]["schema"]["properties"]["code"]["enum"]
        for status, response in found.items()
    }
    assert codes == {400: ["bad_request"], 409: ["closed", "not_open"], 503: ["store_unavailable"]}
    assert [status for status, response in found.items() if "headers" in response] == [503]
    assert "`not_open`: The campaign has not opened yet." in found[409]["description"]


def test_the_documented_schema_is_what_is_sent() -> None:
    sent = json.loads(problem.body(errors.Closed("…")))
    assert set(problem.SCHEMA["required"]) == set(problem.SCHEMA["properties"]) == set(sent)
