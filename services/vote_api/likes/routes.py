"""What a voter has liked already. The like route itself is answered before FastAPI, by protocol.py."""

from __future__ import annotations

import time
from datetime import datetime

from fastapi import APIRouter, Request, Response

from dianzan.domain.campaign import Document
from dianzan.domain.errors import CampaignUnknown, RulesMoved, StoreUnavailable, Unavailable
from dianzan.domain.voters import Voter
from dianzan.domain.windows import Window, now_ms
from dianzan.http import openapi
from dianzan.http.asgi import header
from vote_api import body
from vote_api.documents import MyLike, MyLikes
from vote_api.state import VoteState

router = APIRouter()


@router.get(
    "/v1/campaigns/{campaign}/likes/mine",
    responses=openapi.responses(
        MyLikes, *body.TOKEN_ERRORS, CampaignUnknown, StoreUnavailable, RulesMoved, Unavailable
    ),
    tags=["likes"],
    summary="What this voter has liked in this window",
    openapi_extra={"security": [{"voter": []}]},
)
async def my_likes(campaign: str, request: Request) -> Response:
    """Needs the voter's token. Receipts are those of the first answer."""
    state: VoteState = request.scope["state"]
    document = state["watch"].document(campaign)
    voter = document.voter_of(body.token_of(header(request.scope, b"authorization")), time.time())
    window = document.rules.window_at(now_ms())
    liked = await state["marks"].liked(document, window.day, voter.hash)
    if max(liked, default=0) > len(document.candidates):
        # Liked through another process that knew a new candidate already.
        await state["watch"].refresh()
        document = state["watch"].document(campaign)
        if max(liked) > len(document.candidates):
            raise RulesMoved("The campaign's candidates changed at this moment; ask again.")
    answer = MyLikes(
        [_like(document, voter, window, index) for index in liked],
        remaining=max(0, document.rules.likes_per_window - len(liked)),
        resets_at=None if window.resets_at is None else datetime.fromisoformat(window.resets_at),
    )
    return Response(openapi.encode(answer), media_type=openapi.MEDIA_TYPE)


def _like(document: Document, voter: Voter, window: Window, index: int) -> MyLike:
    return MyLike(document.candidates[index - 1], document.key.receipt(window.day, index, voter.hash))
