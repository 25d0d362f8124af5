"""One HTTP connection of any service: uvicorn's protocol, strict in what it reads, bounded in what a client may take.

A client may send requests faster than it reads answers, a head without an end, or nothing at all: none of it costs
more than a few hundred KB a connection and ARRIVAL_S_MAX.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from dianzan.domain.errors import BadRequest
from dianzan.domain.limits import HEAD_BYTES_MAX, HEADERS_MAX, MESSAGE_BYTES_MAX, PARSED_BYTES_MAX, URL_BYTES_MAX
from dianzan.http import problem
from dianzan.http.connections import ServerState
from dianzan.http.headers import OF_DATA
from dianzan.process import logs

_log = logs.get(__name__)

NOT_HTTP: Final = "Invalid HTTP request received."
BETWEEN, HEAD, BODY = 0, 1, 2  # phases: what of a request has arrived; between two, the next has not begun
_HOST_BYTES: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-._~:[]%!$&'()*+,;="
_NOTED: Final = frozenset({b"host", b"transfer-encoding", b"expect"})
# An escaped slash or question mark belongs to a name. Read as the mark itself it would give one route two spellings.
_MARKS: Final = re.compile(rb"%(2[Ff]|3[Ff])")


def keep_marks(path: bytes) -> bytes:
    """The path so that decoding its escapes leaves those of `/` and `?` as they are."""
    return _MARKS.sub(rb"%25\1", path)


class Connection(HttpToolsProtocol):
    """One connection.

    While a request waits for the answer before it, nothing more is parsed or read. A request that is refused is
    refused after the answers before it, and ends the connection.
    """

    server_state: ServerState
    flow: Flow
    cycle: Any

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.phase = HEAD  # a connection on which nothing comes is one whose first head does not arrive
        self.closing = server_state.draining  # after the answer that is on its way, or comes next
        self.version = ""
        self._hosts = self._arrived_bytes = 0
        self._unparsed = b""
        self._parsing = self._refused = False
        self._running: Any = None  # the cycle the application works on; `cycle` is the newest, which may wait

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Count the connection; older ones that wait for nothing of ours give way where there are too many."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self.server_state.add(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and what waits on it."""
        self.pipeline.clear()
        self._unparsed = b""
        self._forget_answer()
        super().connection_lost(exc)
        self.server_state.remove(self)

    # ---- reading ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what has come; of much only as far as one request waits for another."""
        if len(data) <= PARSED_BYTES_MAX and not self._unparsed:
            self._parse(data)
        else:
            self._unparsed += data
            self._parse_on()

    def _parse_on(self) -> None:
        self._parsing = True  # an answer given meanwhile must not begin it again
        while self._unparsed and not self.pipeline:
            data, self._unparsed = self._unparsed[:PARSED_BYTES_MAX], self._unparsed[PARSED_BYTES_MAX:]
            self._parse(data)
        self._parsing = False
        self._hold_if_waiting()

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(error.__context__ if isinstance(error.__context__, BadRequest) else BadRequest(NOT_HTTP))
            return
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        if self.phase:
            self._arrived_bytes += len(data)
            if self._arrived_bytes > (HEAD_BYTES_MAX if self.phase == HEAD else MESSAGE_BYTES_MAX):
                self._refuse(BadRequest("The request is too large."))

    def on_message_begin(self) -> None:
        """Only what the parser's call-backs fill; uvicorn's scope is made once the head is known to be good."""
        self.phase = HEAD
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._hosts = self._arrived_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer."""
        name = name.lower()
        if name in _NOTED:
            self._note(name, value.lower())
        self.headers.append((name, value))

    def _note(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if value.translate(None, _HOST_BYTES):
                raise BadRequest("The Host is none.")
        elif name == b"expect":
            self.expect_100_continue = value == b"100-continue"
        elif value != b"chunked" or self.parser.get_http_version() != "1.1":
            raise BadRequest("Only the transfer encoding chunked is read, and only of HTTP/1.1.")

    def on_headers_complete(self) -> None:
        """Refuse what a strict server refuses; otherwise take the request."""
        self.version = version = self.parser.get_http_version()
        if version != "1.1" or self._hosts != 1:
            if version not in ("1.0", "1.1"):
                raise BadRequest("HTTP/1.1 is spoken here.")
            if self._hosts > 1 or version == "1.1":
                raise BadRequest("Send one Host.")
        if len(self.url) > URL_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            raise BadRequest("The request's address or headers are too large.")
        self.take()
        self.phase = BODY
        if self.pipeline:
            self.flow.hold()

    def take(self) -> None:
        """Give a request to the application, when its turn has come."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the list that the scope holds
        super().on_headers_complete()
        self.headers = []  # trailers must not become headers
        if b"%" in url:
            self.scope["path"] = unquote(keep_marks(self.scope["raw_path"]).decode("ascii"))
        if self.closing:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The end of a request."""
        self.phase = BETWEEN
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: a request for another protocol is answered by this one, and uvicorn's advice is for developers."""

    # ---- answering --------------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Go on with what has waited. No timer is set: connections are looked at together, each second."""
        self.server_state.total_requests += 1
        if self.closing and not self.pipeline:
            self.transport.close()
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if self._unparsed and not self._parsing:
            self._parse_on()
        self._hold_if_waiting()
        self.flow.resume_reading()  # which a long body may have stopped

    def _hold_if_waiting(self) -> None:
        if self.pipeline or self._unparsed or self._refused:
            self.flow.hold()
        else:
            self.flow.release()

    def _refuse(self, error: BadRequest) -> None:
        """Refuse bytes that are no request; after the answer to the requests before them, if any is on its way."""
        # Of no concern to an operator: anybody can send such bytes at any time.
        _log.info("a client sent what is no request, and was refused", reason=error.detail)
        self._unparsed = b""
        own = self.phase == BODY and self.cycle is not None  # the cycle of the very request that is refused
        if self.pipeline or (self.is_answering and not own):
            self.pipeline.clear()
            self.closing = self._refused = True
            self.flow.hold()
        else:
            begun = own and (self.cycle.response_complete or getattr(self.cycle, "response_started", False))
            if not begun and not self.transport.is_closing():
                self.transport.write(_answer(error, self.server_state.default_headers))
            self.end()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def is_answering(self) -> bool:
        """Whether a request has begun whose answer is not complete."""
        return self.cycle is not None and not self.cycle.response_complete

    # ---- ending -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Close the connection; an application that still answers is told, since it must not write any more."""
        self._forget_answer()
        self.transport.close()

    def _forget_answer(self) -> None:
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def drain(self) -> None:
        """Close after the answer that is on its way, or after the next one, and say so in it."""
        self.closing = True
        if self.is_answering:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """As `drain`, and at once where nothing has come. A head that has begun to arrive is waited for."""
        self.drain()
        if not self.is_answering and (self.phase == BETWEEN or not self.server_state.lingering):
            self.transport.close()


class Flow(FlowControl):
    """uvicorn's flow control, and a hold on reading that nobody but its owner lifts."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__(transport)
        self._held = False

    def hold(self) -> None:
        """Read nothing until `release`, whoever asks for more."""
        self._held = True
        if not self._transport.is_closing():
            self.pause_reading()

    def release(self) -> None:
        """Read on, if it was held."""
        if self._held:
            self._held = False
            self.resume_reading()

    def resume_reading(self) -> None:
        """Read on, if nothing holds it; after the connection's end it would be an error."""
        if not self._held and not self._transport.is_closing():
            super().resume_reading()


def _answer(error: BadRequest, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    content = problem.body(error)
    lines = [*default_headers, (b"content-type", problem.MEDIA_TYPE.encode()), *OF_DATA, (b"connection", b"close")]
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    return STATUS_LINE[error.status] + head + b"content-length: %d\r\n\r\n" % len(content) + content
