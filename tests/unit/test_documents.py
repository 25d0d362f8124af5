"""Documents of both APIs: what is sent is what the struct declares, and OpenAPI tells of every one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import msgspec
import pytest
from fastapi import APIRouter, FastAPI

import results_api.openapi
import results_api.operations
import vote_api.openapi
import vote_api.operations
from dianzan.domain.voters import Voter, VoterClass
from dianzan.domain.wire import Outcome, Status
from results_api import documents as results_documents
from tests.support.casting import document, voter
from vote_api import documents as vote_documents
from vote_api.documents import LikeAnswer
from vote_api.likes import routes as like_routes
from vote_api.likes.batcher import Decision
from vote_api.likes.path import answer_of
from vote_api.voters import routes as voter_routes


def test_the_like_path_writes_the_bytes_of_its_document() -> None:
    campaign = document()
    statuses = bytes([Status.counted, Status.already_liked, Status.over_quota])
    decision = Decision(Outcome(statuses, 7), campaign.rules.window_at(campaign.rules.opens_ms))
    written = answer_of(campaign, Voter(voter(1), VoterClass.device, 0), ["c1", '安然"', "c2", "c3"], decision)

    answer = msgspec.json.decode(written, type=LikeAnswer)

    assert [result.status for result in answer.results] == [
        "counted",
        "unknown_candidate",
        "already_liked",
        "over_quota",
    ]
    assert msgspec.json.encode(answer) == written


APIS = [
    (vote_documents, vote_api.openapi.describe, (like_routes.router, voter_routes.router, vote_api.operations.router)),
    (results_documents, results_api.openapi.describe, (results_api.operations.router,)),
]


@pytest.mark.parametrize(("documents", "describe", "routers"), APIS, ids=["vote", "results"])
def test_openapi_has_the_schema_of_every_document(
    documents: ModuleType, describe: Callable[[FastAPI], dict[str, Any]], routers: Sequence[APIRouter]
) -> None:
    app = FastAPI()
    for router in routers:
        app.include_router(router)
    described = describe(app)
    schemas = described["components"]["schemas"]
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert named <= schemas.keys()
    declared = {name for name, found in vars(documents).items() if _is_document(found)}
    assert declared == schemas.keys()
    assert "422" not in json.dumps(described)


def _is_document(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, msgspec.Struct) and found is not msgspec.Struct
