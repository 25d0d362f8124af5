"""The like path: what a like request asks, what becomes of it, and the bytes it is answered with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from dianzan.domain import wire
from dianzan.domain.campaign import Document
from dianzan.domain.codes import folded
from dianzan.domain.errors import (
    ApiError,
    ClassNotAllowed,
    Closed,
    MethodNotAllowed,
    NotOpen,
    ResultsUnavailable,
    RulesMoved,
    Unavailable,
)
from dianzan.domain.voters import Voter
from dianzan.domain.windows import now_ms
from dianzan.domain.wire import Outcome, Status
from dianzan.http import problem
from dianzan.http.headers import NO_SNIFF
from dianzan.http.openapi import encode
from dianzan.process import background, logs, metrics
from dianzan.store.marks import Marks
from vote_api import body
from vote_api.documents import LikeAnswer, LikeResult
from vote_api.likes.batcher import Decision
from vote_api.likes.batchers import Batchers
from vote_api.store.watch import StoreWatch

_log = logs.get(__name__)

# Called once a request with the answer's status, its header lines (each ended by CR LF) and its body.
Reply = Callable[[int, bytes, bytes], None]

_OPEN_TO_ALL = b"access-control-allow-origin: *\r\naccess-control-expose-headers: retry-after\r\n%b: %b\r\n" % NO_SNIFF
_HEAD_OF_ANSWER = b"content-type: application/json\r\ncache-control: no-store\r\n" + _OPEN_TO_ALL
_WAIVED = b"dianzan-promise: waived\r\n"
_ANSWERED = metrics.REQUESTS.labels("ok")
_REFUSALS: list[type[Unavailable]] = [Unavailable, *Unavailable.__subclasses__()]
for _refusal in _REFUSALS:
    if _refusal is not ResultsUnavailable:
        metrics.REQUESTS.labels(_refusal.code)  # begins at 0: a rate does not see the first of a series
_COUNTERS: dict[tuple[str, int], Any] = {}  # by campaign and status: looking a label up costs as much as a receipt
_STATUS_NAMES = {status.value: status.name for status in Status}


class HttpRequest(msgspec.Struct):
    """A request to the like route, its body whole; header names in lower case, `client` an address or empty."""

    method: bytes
    campaign: str
    headers: Mapping[bytes, bytes]
    body: bytes
    client: str
    reply: Reply
    began_s: float = 0.0  # when it had arrived: a slow phone's upload is not our time


class _Asked(msgspec.Struct):
    """What a request asks for; `codes` are distinct."""

    request: HttpRequest
    document: Document
    voter: Voter
    network: int
    codes: Sequence[str]


class Likes:
    """Answers `POST /v1/campaigns/{campaign}/likes`. One object a process, called on its event loop."""

    def __init__(self, *, watch: StoreWatch, batchers: Batchers, marks: Marks) -> None:
        self._watch, self._batchers, self._marks = watch, batchers, marks
        self._rare: set[asyncio.Task[None]] = set()

    # The hot path. A request costs no task and no coroutine:
    #
    #   1. read it without I/O: body, campaign, token, voter class (`_read`)
    #   2. name its candidates by index, pack a ballot, queue it with the batcher of its shard's server (`_cast`)
    #   3. when its batch is decided: statuses, receipts and likes left as JSON (`_decided`)
    #
    # Whatever goes wrong at a step is answered as a problem document there, so each request has one answer. Two rare
    # cases leave the path for a task: rules that changed between two clocks, and a ballot of unknown codes alone.
    def ask(self, request: HttpRequest) -> None:
        """Decide one request; `reply` is called once, before this returns or later."""
        request.began_s = time.perf_counter()
        try:
            if request.method != b"POST":
                raise MethodNotAllowed("Send a like by POST; what a voter has liked is at …/likes/mine.", allow="POST")
            self._cast(self._read(request))
        except Exception as error:  # noqa: BLE001 answered and logged
            self._refuse(error, request)

    async def aclose(self) -> None:
        """Return when the requests that left the hot path are answered."""
        await asyncio.gather(*self._rare)

    def _read(self, request: HttpRequest) -> _Asked:
        body.require_json(request.headers.get(b"content-type"))
        body.require_size(request.body)
        document = self._watch.document(request.campaign)
        like = body.parse_like(request.body, document.rules.likes_per_window)
        token = body.token_of(request.headers.get(b"authorization"), like.token)
        voter = document.voter_of(token, time.time())
        require_voting(document, voter)
        return _Asked(request, document, voter, document.key.network_tag(request.client), like.candidates)

    def _cast(self, asked: _Asked) -> None:
        decided = self._queued(asked)
        if decided is None:
            self._leave(self._nothing_known(asked), asked)
        else:
            decided.add_done_callback(partial(self._decided, asked))

    def _queued(self, asked: _Asked) -> asyncio.Future[Decision] | None:
        """None if no candidate is known."""
        document, index_of = asked.document, asked.document.index_of
        try:
            indexes = [index_of[code] for code in asked.codes]
        except KeyError:  # rare: a code in capitals, or nobody's
            asked.codes = _known_by(index_of, asked.codes)
            indexes = [index_of[code] for code in asked.codes if code in index_of]
            if not indexes:
                return None
        ballot = wire.pack_ballot(asked.voter, asked.network, indexes, document.width)
        shard = document.rules.every_shard[wire.shard_of(asked.voter.hash, document.rules.shards)]
        return self._batchers.cast(document, shard, ballot, len(indexes))

    def _decided(self, asked: _Asked, decided: asyncio.Future[Decision]) -> None:
        error = decided.exception()
        if error is None:
            self._answer(asked, decided.result())
        elif isinstance(error, RulesMoved):
            self._leave(self._once_more(asked), asked)
        else:
            self._refuse(error, asked.request)

    def _answer(self, asked: _Asked, decision: Decision) -> None:
        try:
            content = answer_of(asked.document, asked.voter, asked.codes, decision)
        except Exception as error:  # noqa: BLE001 answered and logged
            self._refuse(error, asked.request)
            return
        asked.request.reply(200, self._head(_HEAD_OF_ANSWER), content)
        _ANSWERED.inc()
        metrics.REQUEST_SECONDS.observe(time.perf_counter() - asked.request.began_s)

    def _refuse(self, error: BaseException, request: HttpRequest) -> None:
        if not isinstance(error, ApiError):
            _log.error("a like request failed", exc_info=error)
            error = Unavailable("Something went wrong here, and the like may or may not be written; ask again.")
        lines = {"content-type": problem.MEDIA_TYPE, **problem.headers(error)}
        head = b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in lines.items()) + _OPEN_TO_ALL
        request.reply(error.status, self._head(head), problem.body(error))
        metrics.REQUESTS.labels(error.code).inc()
        metrics.REQUEST_SECONDS.observe(time.perf_counter() - request.began_s)

    def _head(self, lines: bytes) -> bytes:
        return lines + _WAIVED if self._watch.waived else lines

    # ---- off the hot path -------------------------------------------------------------------------------------------

    def _leave(self, rest: Coroutine[Any, Any, None], asked: _Asked) -> None:
        task = background.spawn("rare like", self._settled(rest, asked))
        self._rare.add(task)
        task.add_done_callback(self._rare.discard)

    async def _settled(self, rest: Coroutine[Any, Any, None], asked: _Asked) -> None:
        try:
            await rest
        except Exception as error:  # noqa: BLE001 answered and logged
            self._refuse(error, asked.request)

    async def _once_more(self, asked: _Asked) -> None:
        """Nothing was written: read the new rules, name the new window, and try once more."""
        await self._watch.refresh()
        asked.document = self._watch.document(asked.document.rules.id)
        decided = self._queued(asked)
        if decided is None:
            await self._nothing_known(asked)
        else:
            self._answer(asked, await decided)

    async def _nothing_known(self, asked: _Asked) -> None:
        document, at_ms = asked.document, now_ms()
        if at_ms < document.rules.opens_ms:
            raise NotOpen("The campaign is not open yet.")
        if at_ms >= document.rules.closes_ms:
            raise Closed("Voting has ended.")
        window = document.rules.window_at(at_ms)
        liked = await self._marks.liked(document, window.day, asked.voter.hash)
        remaining = document.rules.likes_per_window - len(liked)
        self._answer(asked, Decision(Outcome(b"", remaining), window))


def _known_by(index_of: Mapping[str, int], codes: Sequence[str]) -> list[str]:
    """The codes in the spelling of the roster, distinct; one that is nobody's stays as it was sent."""
    return list(dict.fromkeys(small if (small := folded(code)) in index_of else code for code in codes))


def require_voting(document: Document, voter: Voter) -> None:
    """Raise Closed after the campaign's end, ClassNotAllowed for a voter class it does not take."""
    if document.state.is_over:
        raise Closed("Voting has ended.")
    if voter.voter_class not in document.allowed:
        raise ClassNotAllowed(f"This campaign takes likes of: {', '.join(document.rules.voter_classes)}.")


def answer_of(document: Document, voter: Voter, codes: Sequence[str], decision: Decision) -> bytes:
    """The answer's JSON, results in the order of the request; the same like has the same receipt every time."""
    outcome, window, results = decision.outcome, decision.window, []
    statuses, index_of, campaign = iter(outcome.statuses), document.index_of, document.rules.id
    for status in set(outcome.statuses):
        _counter(campaign, status).inc(outcome.statuses.count(status))
    for code in codes:
        index = index_of.get(code)
        if index is None:
            results.append(LikeResult(code, "unknown_candidate"))
            continue
        status = next(statuses)
        liked = status != Status.over_quota
        receipt = document.key.receipt(window.day, index, voter.hash) if liked else UNSET
        results.append(LikeResult(code, _STATUS_NAMES[status], receipt))
    return encode(LikeAnswer(results, outcome.remaining, window.resets_at))


def _counter(campaign: str, status: int) -> Any:
    counter = _COUNTERS.get((campaign, status))
    if counter is None:
        counter = _COUNTERS[campaign, status] = metrics.LIKES.labels(campaign, Status(status).name)
    return counter
