"""Request bodies: their size, their type, and the voter token that may come in a header or in the body."""

from __future__ import annotations

from typing import Final

import msgspec

from dianzan.domain import errors
from dianzan.domain.errors import BadRequest, BodyTooLarge, MediaTypeUnsupported, TokenMissing
from dianzan.domain.limits import BODY_BYTES_MAX, CANDIDATES_PER_BALLOT_MAX
from dianzan.http.asgi import Receive, Scope, header
from vote_api.documents import LikeRequest, VoterRequest

BODY_ERRORS: Final = (BadRequest, BodyTooLarge, MediaTypeUnsupported)
TOKEN_ERRORS: Final = (TokenMissing, errors.TokenInvalid, errors.TokenRevoked, errors.TokenExpired)
MEDIA_TYPES: Final = ("application/json", "text/plain")  # a browser sends plain text without a preflight


class ClientGone(Exception):
    """The client hung up before its body was complete; there is nobody to answer."""


_like_decoder = msgspec.json.Decoder(LikeRequest)
_voter_decoder = msgspec.json.Decoder(VoterRequest)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def require_json(content_type: bytes | None) -> None:
    """Raise MediaTypeUnsupported for what is neither JSON nor the plain text that a browser sends unasked."""
    if content_type == b"application/json":
        return
    if (content_type or b"").partition(b";")[0].strip().lower().decode("latin-1") not in MEDIA_TYPES:
        raise MediaTypeUnsupported("Send JSON with content type application/json or text/plain.")


def require_size(body: bytes) -> None:
    """Raise BodyTooLarge past the limit."""
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLarge(f"Send at most {BODY_BYTES_MAX} bytes.")


async def read(scope: Scope, receive: Receive) -> bytes:
    """The whole body; an empty one needs no media type. Raises MediaTypeUnsupported, BodyTooLarge or ClientGone."""
    content_type = header(scope, b"content-type")
    if content_type is not None:
        require_json(content_type)
    message = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body") and len(body) <= BODY_BYTES_MAX:
        message = await receive()
        body += message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone
    if body:
        require_json(content_type)
    require_size(body)
    return body


def parse_like(body: bytes, quota: int) -> LikeRequest:
    """A like request with 1 to `quota` distinct candidates, doubles dropped. Raises BadRequest."""
    try:
        like = _like_decoder.decode(body)
    except _UNREADABLE as error:
        raise BadRequest(f'Send {{"candidates": ["c01"]}}: {error}.') from error
    like.candidates = list(dict.fromkeys(like.candidates))
    if not 1 <= len(like.candidates) <= min(quota, CANDIDATES_PER_BALLOT_MAX):
        raise BadRequest(f"Name 1 to {quota} candidates, not {len(like.candidates)}.")
    return like


def parse_voter(body: bytes) -> VoterRequest:
    """A request for a token; an empty body asks for one of the campaign's own page. Raises BadRequest."""
    try:
        return _voter_decoder.decode(body or b"{}")
    except _UNREADABLE as error:
        raise BadRequest(f'Send {{"publisher": "CODE"}} or {{}}: {error}.') from error


def token_of(authorization: bytes | None, in_body: str | None = None) -> str:
    """The voter token from an Authorization header, otherwise from the body. Raises TokenMissing."""
    if authorization is None:
        if in_body:
            return in_body
        authorization = b""
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise TokenMissing("Send Authorization: Bearer TOKEN; POST …/voters gives one.")
    return token.strip().decode("latin-1")
