"""The like route: plain ASGI in front of the FastAPI app, since a typed route costs 79 µs a request and this one 1."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec

from dianzan import metrics, problem, wire
from dianzan.campaign import Document
from dianzan.clock import now_ms
from dianzan.errors import ApiError, ClassNotAllowed, Closed, MethodNotAllowed, NotOpen, RulesMoved
from dianzan.identity import Voter
from dianzan.vote_store import VoteStore
from dianzan.wire import Status
from vote_api import body
from vote_api.batcher import Decision
from vote_api.batchers import Batchers
from vote_api.body import ClientGone, Receive, Scope
from vote_api.watch import StoreWatch

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PATH = re.compile(r"/v1/campaigns/([^/]+)/likes")
_NAMES: dict[int, str] = {status.value: status.name for status in Status}
_STATUS_COUNTERS: dict[tuple[str, int], Any] = {}


class LikeResult(msgspec.Struct, omit_defaults=True):
    """What became of one like; a receipt is there where the voter has liked the candidate in this window."""

    candidate: str
    status: str
    receipt: str | None = None


class LikeAnswer(msgspec.Struct):
    """The answer to a like request: likes left in the window, and when it ends."""

    results: list[LikeResult]
    remaining: int
    resets_at: str


_encode = msgspec.json.Encoder().encode


class LikeRoute:
    """Answers `POST /v1/campaigns/{campaign}/likes`; everything else goes on to the app behind it."""

    def __init__(self, app: App, *, watch: StoreWatch, batchers: Batchers, store: VoteStore) -> None:
        self._app, self._watch, self._batchers, self._store = app, watch, batchers, store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; errors become problem documents here and nowhere else on this path."""
        matched = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if matched is None or scope["method"] == "OPTIONS":  # a preflight is answered by the CORS layer
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("Send a like by POST; what a voter has liked is at …/likes/mine.", allow="POST")
            raw = await body.read(scope, receive)
            started = time.perf_counter()  # a slow phone's upload is not our time
            answer = await self._like(matched[1], scope, raw)
        except ClientGone:
            return
        except ApiError as error:
            metrics.REQUESTS.labels(error.code).inc()
            await _reply(send, error.status, problem.MEDIA_TYPE, problem.body(error), problem.headers(error))
        else:
            metrics.REQUESTS.labels("ok").inc()
            await _reply(send, 200, "application/json", _encode(answer), _NO_STORE)
        metrics.REQUEST_SECONDS.observe(time.perf_counter() - started)

    # The life of a like request, in order: body, campaign, token, class, candidates, ballot, server, batch, receipts.
    # Everything before the batch is without I/O, but for a ballot of unknown codes alone; all after it cannot fail.
    async def _like(self, campaign: str, scope: Scope, raw: bytes) -> LikeAnswer:
        document = self._watch.document(campaign)
        request = body.parse_like(raw, document.rules.likes_per_window)
        voter = document.key.read_token(body.token_of(scope, request.token), time.time())
        require_voting(document, voter)
        client = scope["client"]
        network = document.key.network_tag(client[0]) if client else 0
        try:
            return await self._decide(document, voter, network, request.candidates)
        except RulesMoved:
            # Nothing was written: read the new rules, name the new window, and try once more.
            await self._watch.refresh()
            return await self._decide(self._watch.document(campaign), voter, network, request.candidates)

    async def _decide(self, document: Document, voter: Voter, network: int, codes: Sequence[str]) -> LikeAnswer:
        indexes = [document.index_of[code] for code in codes if code in document.index_of]
        if not indexes:
            return await self._nothing_known(document, voter, codes)
        ballot = wire.pack_ballot(voter, network, indexes, document.width)
        shard = wire.shard_of(voter.hash, document.rules.shards)
        return answer_of(document, voter, codes, await self._batchers.cast(document, shard, ballot, len(indexes)))

    async def _nothing_known(self, document: Document, voter: Voter, codes: Sequence[str]) -> LikeAnswer:
        at_ms = now_ms()
        if at_ms < document.rules.opens_ms:
            raise NotOpen("The campaign is not open yet.")
        if at_ms >= document.rules.closes_ms:
            raise Closed("Voting has ended.")
        window = document.rules.window_at(at_ms)
        liked = await self._store.liked(document, window.day, voter.hash)
        remaining = document.rules.likes_per_window - len(liked)
        return LikeAnswer([LikeResult(code, "unknown_candidate") for code in codes], remaining, window.resets_at)


def require_voting(document: Document, voter: Voter) -> None:
    """Raise Closed after the campaign's end, ClassNotAllowed for a voter class it does not take."""
    if document.state.is_over:
        raise Closed("Voting has ended.")
    if voter.voter_class not in document.allowed:
        raise ClassNotAllowed(f"This campaign takes likes of: {', '.join(document.rules.voter_classes)}.")


def answer_of(document: Document, voter: Voter, codes: Sequence[str], decision: Decision) -> LikeAnswer:
    """The answer in the order of the request; the same like has the same receipt every time."""
    statuses, day, results = iter(decision.outcome.statuses), decision.window.day, []
    for code in codes:
        index = document.index_of.get(code)
        if index is None:
            results.append(LikeResult(code, "unknown_candidate"))
            continue
        status = next(statuses)
        _count_status(document.rules.id, status)
        receipt = None if status == Status.over_quota else document.key.receipt(day, index, voter.hash)
        results.append(LikeResult(code, _NAMES[status], receipt))
    return LikeAnswer(results, decision.outcome.remaining, decision.window.resets_at)


def _count_status(campaign: str, status: int) -> None:
    counter = _STATUS_COUNTERS.get((campaign, status))
    if counter is None:
        counter = _STATUS_COUNTERS[campaign, status] = metrics.LIKES.labels(campaign, _NAMES[status])
    counter.inc()


_NO_STORE: dict[str, str] = {"cache-control": "no-store"}


async def _reply(send: Send, status: int, media_type: str, content: bytes, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw += [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"access-control-allow-origin", b"*"),
        (b"access-control-expose-headers", b"retry-after"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})
