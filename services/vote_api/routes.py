"""The vote API's typed routes: voter tokens, a voter's own likes, health and metrics. The like route is in likes.py."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from dianzan.domain.campaign import Document
from dianzan.domain.errors import (
    BadRequest,
    BodyTooLarge,
    CampaignUnknown,
    ClassNotAllowed,
    ClockSkewed,
    Closed,
    MediaTypeUnsupported,
    MethodNotAllowed,
    NotOpen,
    Overloaded,
    RulesMoved,
    StoreUnavailable,
    StoreUnsafe,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TooManyRequests,
    Unavailable,
)
from dianzan.domain.limits import TOKEN_LIFE_S
from dianzan.domain.voters import Voter, VoterClass
from dianzan.domain.windows import now_ms
from dianzan.http.problem import responses
from dianzan.process import metrics
from dianzan.store.store import Store as VoteStore
from vote_api.likes import body
from vote_api.settings import VoteSettings
from vote_api.store.watch import StoreWatch

router = APIRouter()

BODY_ERRORS = (BadRequest, BodyTooLarge, MediaTypeUnsupported)
TOKEN_ERRORS = (TokenMissing, TokenInvalid, TokenExpired)
LIKE_ERRORS = (
    *BODY_ERRORS,
    MethodNotAllowed,
    *TOKEN_ERRORS,
    ClassNotAllowed,
    CampaignUnknown,
    NotOpen,
    Closed,
    StoreUnavailable,
    StoreUnsafe,
    ClockSkewed,
    Overloaded,
    RulesMoved,
    Unavailable,
)


class LikeRequest(BaseModel):
    """1 to the campaign's quota of candidates, by code; the token only where no Authorization header is sent."""

    candidates: list[str] = Field(min_length=1, max_length=255, examples=[["c01", "c17"]])
    token: str | None = None


class LikeResult(BaseModel):
    """What became of one like. The receipt is the same for every retry; absent where nothing is liked."""

    candidate: str
    status: Literal["counted", "already_liked", "over_quota", "unknown_candidate"]
    receipt: str | None = Field(default=None, examples=["8ZK3M0Q9T2VWXA4B"])


class LikeAnswer(BaseModel):
    """One result a candidate, the likes this voter has left in the window, and when the window ends."""

    results: list[LikeResult]
    remaining: int
    resets_at: datetime


class VoterRequest(BaseModel):
    """Which media site asks; absent means the campaign's own page."""

    publisher: str | None = Field(default=None, examples=["bjnews"])


class VoterAnswer(BaseModel):
    """A bearer token for one voter in one campaign; keep it, since a new one is a new voter."""

    token: str
    voter_class: Literal["device", "verified"] = Field(serialization_alias="class")
    expires_at: datetime


class MyLike(BaseModel):
    """One like of this voter in this window."""

    candidate: str
    receipt: str


class MyLikes(BaseModel):
    """What this voter has liked in this window."""

    likes: list[MyLike]
    remaining: int
    resets_at: datetime


class Readiness(BaseModel):
    """Whether likes are taken, and what stands in the way or was waived."""

    ready: bool
    promise: Literal["kept", "broken", "waived"]
    reasons: list[str]


async def watch_of(request: Request) -> StoreWatch:
    """What this process knows of the store."""
    watch: StoreWatch = request.app.state.watch
    return watch


async def store_of(request: Request) -> VoteStore:
    """The store itself."""
    store: VoteStore = request.app.state.store
    return store


Watch = Annotated[StoreWatch, Depends(watch_of)]
Store = Annotated[VoteStore, Depends(store_of)]


@router.post(
    "/v1/campaigns/{campaign}/voters",
    response_model=VoterAnswer,
    responses=responses(
        *BODY_ERRORS, ClassNotAllowed, CampaignUnknown, Closed, TooManyRequests, StoreUnavailable, Unavailable
    ),
    openapi_extra={
        "requestBody": {
            "content": {
                kind: {"schema": VoterRequest.model_json_schema()} for kind in ("application/json", "text/plain")
            }
        }
    },
    tags=["voters"],
    summary="Become a voter of the device class",
)
async def create_voter(campaign: str, request: Request, watch: Watch, store: Store) -> Any:
    """Gives a new random voter of class `device`. One network (/24 or /48) may ask for a bounded number a minute."""
    asked = body.parse_voter(await body.read(request.scope, request.receive))
    document = watch.document(campaign)
    if document.state.is_over:
        raise Closed("Voting has ended.")
    if VoterClass.device not in document.allowed:
        raise ClassNotAllowed("This campaign takes likes of verified voters only.")
    await _require_share(document, request, store)
    voter = Voter(
        hash=document.key.voter_hash("device", os.urandom(16)),
        voter_class=VoterClass.device,
        publisher=document.publisher_number.get(asked.publisher or "", 0),
    )
    expires_s = int(time.time()) + TOKEN_LIFE_S
    metrics.TOKENS.labels("given").inc()
    return VoterAnswer(
        token=document.key.token(voter, expires_s),
        voter_class="device",
        expires_at=datetime.fromtimestamp(expires_s, UTC),
    )


async def _require_share(document: Document, request: Request, store: VoteStore) -> None:
    settings: VoteSettings = request.app.state.settings
    network = document.key.network_tag(request.client.host if request.client else "")
    minted = await store.rates.count_minted(document.rules.id, network, int(time.time()) // 60)
    if minted > settings.tokens_per_network_minute:
        metrics.TOKENS.labels("limited").inc()
        raise TooManyRequests("Too many new voters from this network in this minute; ask again in the next.")


@router.get(
    "/v1/campaigns/{campaign}/likes/mine",
    response_model=MyLikes,
    responses=responses(*TOKEN_ERRORS, CampaignUnknown, StoreUnavailable, RulesMoved, Unavailable),
    tags=["likes"],
    summary="What this voter has liked in this window",
    openapi_extra={"security": [{"voter": []}]},
)
async def my_likes(campaign: str, request: Request, watch: Watch, store: Store) -> MyLikes:
    """Needs the voter's token. Receipts are those of the first answer."""
    document = watch.document(campaign)
    voter = document.key.read_token(body.token_of(body.header(request.scope, b"authorization")), time.time())
    window = document.rules.window_at(now_ms())
    liked = await store.marks.liked(document, window.day, voter.hash)
    if any(index > len(document.candidates) for index in liked):
        # Liked through another process that knew a new candidate already.
        await watch.refresh()
        document = watch.document(campaign)
        if max(liked) > len(document.candidates):
            raise RulesMoved("The campaign's candidates changed at this moment; ask again.")
    return MyLikes(
        likes=[
            MyLike(
                candidate=document.candidates[index - 1], receipt=document.key.receipt(window.day, index, voter.hash)
            )
            for index in liked
        ],
        remaining=max(0, document.rules.likes_per_window - len(liked)),
        resets_at=datetime.fromisoformat(window.resets_at),
    )


@router.get("/healthz", tags=["operations"], summary="Whether the process lives")
async def healthz() -> dict[str, str]:
    """Answers as long as the process serves; says nothing of the store."""
    return {"status": "ok"}


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness}},
    tags=["operations"],
    summary="Whether likes are taken now",
)
async def readyz(watch: Watch) -> JSONResponse:
    """503 while no store server may take likes: down, full, or its promise broken. Likes do not need Postgres."""
    promise: Literal["kept", "broken", "waived"] = "waived" if watch.waived else "kept" if watch.kept else "broken"
    answer = Readiness(ready=watch.ready, promise=promise, reasons=watch.reasons)
    headers = {} if watch.ready else {"retry-after": "1"}
    return JSONResponse(answer.model_dump(), status_code=200 if watch.ready else 503, headers=headers)


@router.get("/metrics", tags=["operations"], summary="Prometheus metrics", response_class=Response)
async def prometheus() -> Response:
    """The metrics of this process in the Prometheus text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
