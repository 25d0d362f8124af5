"""The route by which a client becomes a voter."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dianzan.domain import errors
from dianzan.http import openapi
from vote_api import body
from vote_api.documents import VoterAnswer, VoterRequest
from vote_api.state import VoteState

router = APIRouter()


@router.post(
    "/v1/campaigns/{campaign}/voters",
    responses=openapi.responses(
        VoterAnswer,
        *body.BODY_ERRORS,
        errors.TokenInvalid,
        errors.TokenRevoked,
        errors.ClassNotAllowed,
        errors.VoterRefused,
        errors.CampaignUnknown,
        errors.Closed,
        errors.NotOpen,
        errors.TooManyRequests,
        errors.StoreUnavailable,
        errors.Unavailable,
    ),
    openapi_extra={"requestBody": {"content": openapi.content(VoterRequest, *body.MEDIA_TYPES)}},
    tags=["voters"],
    summary="Become a voter of the device class, or renew a token",
)
async def create_voter(campaign: str, request: Request) -> Response:
    """Gives a new random voter of class `device`, or with a token the same voter another one, though it has expired.

    One network (/24 or /48) may ask for a bounded number a minute.
    """
    wanted = body.parse_voter(await body.read(request.scope, request.receive))
    address = request.client.host if request.client else ""
    state: VoteState = request.scope["state"]
    if wanted.token is None:
        answer = await state["voters"].device(campaign, wanted.publisher, address)
    else:
        answer = await state["voters"].renewed(campaign, wanted.token, address)
    return Response(openapi.encode(answer), media_type=openapi.MEDIA_TYPE)
