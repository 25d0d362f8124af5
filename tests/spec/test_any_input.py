"""No input makes a server fail: what the OpenAPI documents allow and forbid, and bytes that follow no document."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.system import System

EXAMPLES_AN_OPERATION = 12
EXAMPLES_OF_BYTES = 150
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
bounded = settings(
    max_examples=EXAMPLES_AN_OPERATION,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@pytest.mark.parametrize("api", ["vote_url", "results_url"])
@pytest.mark.parametrize("campaign", ["demo", None], ids=["of_the_demo_campaign", "of_any_campaign"])
def test_each_answer_is_one_its_openapi_document_names(system: System, api: str, campaign: str | None) -> None:
    schema = schemathesis.openapi.from_url(f"{getattr(system, api)}/openapi.json")
    token = httpx.post(f"{system.vote_url}/v1/campaigns/demo/voters", json={}).json()["token"]

    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if campaign and (operation.path.endswith("/stream") or "{campaign}" not in operation.path):
            continue  # a stream does not end, and an address without a campaign is tried by the other case

        @bounded
        @given(case=operation.as_strategy())
        def answers_as_documented(case: schemathesis.Case[Any]) -> None:
            if campaign:
                case.path_parameters = {**(case.path_parameters or {}), "campaign": campaign}
                case.headers["authorization"] = f"Bearer {token}"
            case.call_and_validate(checks=CHECKS, timeout=10)

        answers_as_documented()


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
LIKE_BODIES = st.fixed_dictionaries(
    {"candidates": st.lists(st.text(max_size=40) | st.sampled_from(["c01", "c02"]), max_size=12)},
    optional={"token": st.text(max_size=60) | st.none(), "publisher": JSON_VALUES},
)
BODIES = st.binary(max_size=200) | (LIKE_BODIES | JSON_VALUES).map(lambda value: json.dumps(value).encode())
HEADER_BYTES = st.binary(max_size=80).map(lambda raw: raw.translate(None, b"\r\n\0"))
SEGMENTS = st.sampled_from(
    [
        "v1",
        "campaigns",
        "demo",
        "likes",
        "mine",
        "voters",
        "results",
        "candidates",
        "c01",
        "tally.csv",
        "web",
        "c",
        "..",
    ]
) | st.text(max_size=12).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe=""))
LIKE_PATHS = st.sampled_from(["/v1/campaigns/demo/likes", "/v1/campaigns/demo/voters", "/v1/campaigns/demo/likes/mine"])
PATHS = LIKE_PATHS | st.lists(SEGMENTS, max_size=6).map(lambda parts: "/" + "/".join(parts))
METHODS = st.sampled_from(["GET", "POST", "POST", "POST", "PUT", "HEAD", "OPTIONS"])
BEARERS = HEADER_BYTES | HEADER_BYTES.map(lambda raw: b"Bearer " + raw)
MEDIA_TYPES = st.sampled_from([b"application/json", b"text/plain;charset=utf-8"]) | HEADER_BYTES


@pytest.fixture(scope="module", params=["vote_port", "results_port"])
def port(request: pytest.FixtureRequest, system: System) -> int:
    number: int = getattr(system, request.param)
    return number


HEADERS = st.fixed_dictionaries({"authorization": BEARERS, "content-type": MEDIA_TYPES, "if-none-match": HEADER_BYTES})


@settings(bounded, max_examples=EXAMPLES_OF_BYTES)
@given(method=METHODS, path=PATHS, headers=HEADERS, body=BODIES)
def test_no_bytes_at_all_make_a_server_fail(
    port: int, method: str, path: str, headers: dict[str, bytes], body: bytes
) -> None:
    assume(not path.endswith("/stream"))
    named = [name.encode() + b": " + value for name, value in headers.items()]
    head = [f"{method} {path} HTTP/1.1".encode(), b"host: 127.0.0.1", b"connection: close", *named]

    request = b"\r\n".join([*head, b"content-length: %d" % len(body), b"", body])

    assert 200 <= _status(port, request) < 500


def _status(port: int, request: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        first_line = connection.makefile("rb").readline()
    return int(first_line.split()[1])
