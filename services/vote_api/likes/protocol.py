"""The HTTP side of the like path: uvicorn's protocol, which answers like requests before ASGI and hands on all others.

An ASGI request costs a scope, a task and two messages: as much as everything a like needs. The parser, time-outs,
pipelining and shutdown stay uvicorn's own. See docs/decisions/0006.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.config import Config
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from dianzan.domain.limits import BODY_BYTES_MAX
from dianzan.http.connection import BETWEEN, Connection, keep_marks
from dianzan.http.connections import ServerState
from vote_api.likes.path import HttpRequest, Likes

_LIKES = re.compile(rb"/v1/campaigns/([^/?]+)/likes(?:\?.*)?", re.DOTALL)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"

Headers = list[tuple[bytes, bytes]]


class LikeProtocol(Connection):
    """One connection. The application's lifespan must yield the state `{"likes": Likes}`.

    A like request takes the place of uvicorn's RequestResponseCycle: the next request on the connection waits until
    it is answered, a shutdown waits for it too, and a client that hangs up is not written to.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._likes: Likes = app_state["likes"]
        self._peer = ""
        self._proxies: Any = None  # those that may say whom they ask for, where the peer is one of them

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Learn who the peer is, once for all its requests."""
        super().connection_made(transport)
        self._peer = self.client[0] if self.client else ""
        outermost = self.config.loaded_app  # uvicorn's own, where it trusts proxies
        if isinstance(outermost, ProxyHeadersMiddleware) and self._peer in outermost.trusted_hosts:
            self._proxies = outermost.trusted_hosts

    def take(self) -> None:
        """Take a like request; give any other to uvicorn."""
        url = self.url
        if not url.startswith(b"/") or b"#" in url:
            url = httptools.parse_url(url).path or b""  # an absolute address, as a proxy is asked
        if b"%" in url:
            url = unquote_to_bytes(keep_marks(url))
        like, method = _LIKES.fullmatch(url), self.parser.get_method()
        if like is None or method == b"OPTIONS":  # a preflight is answered by the CORS layer
            super().take()
            return
        before, self.cycle = self.cycle, _LikeCycle(self, method, like[1])
        if before is None or before.response_complete:
            self.cycle.begin()
        else:
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """A part of a request's body."""
        if type(self.cycle) is _LikeCycle:
            self.cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        if type(self.cycle) is _LikeCycle:
            self.phase = BETWEEN
            self.cycle.complete()
        else:
            super().on_message_complete()

    def client_of(self, headers: Headers) -> str:
        """Who asks: the peer, or whom a trusted proxy says it asks for; empty if there is no address."""
        if self._proxies is not None:
            forwarded = b", ".join([value for name, value in headers if name == b"x-forwarded-for"])
            if forwarded:
                return self._proxies.get_trusted_client_address(forwarded.decode("latin-1"))[0] or self._peer
        return self._peer

    def decide(self, request: HttpRequest) -> None:
        """Hand on a like request whose turn has come."""
        self._likes.ask(request)


class _LikeCycle:
    """One like request and its answer, with the attributes that uvicorn's protocol asks of a cycle.

    It is decided when its turn on the connection has come and its body is whole, or too long.
    """

    __slots__ = (
        "_body",
        "_campaign",
        "_expects",
        "_headers",
        "_method",
        "_protocol",
        "_turn",
        "_whole",
        "disconnected",
        "keep_alive",
        "response_complete",
    )
    message_event = asyncio.Event()  # nobody waits for it

    def __init__(self, protocol: LikeProtocol, method: bytes, campaign: bytes) -> None:
        self._protocol, self._method, self._campaign = protocol, method, campaign
        # Trailers of a body in chunks come to the same call-back: they must not become headers.
        self._headers, protocol.headers = protocol.headers, []
        self._expects = protocol.expect_100_continue
        self._body = b""
        self._turn = self._whole = self.response_complete = self.disconnected = False
        parser = protocol.parser
        # Nothing can follow a request for another protocol (h2c): its body is not parsed as one.
        self.keep_alive = parser.should_keep_alive() and not parser.should_upgrade() and protocol.version != "1.0"

    def begin(self) -> None:
        """All requests before it on the connection are answered."""
        self._turn = True
        if self._expects:
            self._protocol.transport.write(_CONTINUE)
        self._ask_if_ready()

    async def run_asgi(self, _app: object) -> None:
        """As uvicorn begins what has waited for its turn."""
        self.begin()

    def add(self, part: bytes) -> None:
        """A part of the body; what comes after the limit is dropped, and the request refused."""
        if not self._whole:
            self._body += part
            if len(self._body) > BODY_BYTES_MAX:
                self.complete()

    def complete(self) -> None:
        """No more of the body is wanted."""
        if not self._whole:
            self._whole = True
            self._ask_if_ready()

    def _ask_if_ready(self) -> None:
        if self._turn and self._whole:
            headers, body = self._headers, self._body
            self._headers, self._body = [], b""  # an idle connection keeps nothing of its last request
            self._protocol.decide(
                HttpRequest(
                    method=self._method,
                    campaign=self._campaign.decode("utf-8", "replace"),
                    headers=dict(reversed(headers)),  # the first of a name stands
                    body=body,
                    client=self._protocol.client_of(headers),
                    reply=self.reply,
                )
            )

    def reply(self, status: int, head: bytes, content: bytes) -> None:
        """Write the answer, in one piece."""
        protocol, transport = self._protocol, self._protocol.transport
        self.response_complete = True
        if transport.is_closing():
            return
        if protocol.flow.write_paused:
            transport.abort()  # a client that asks on and reads nothing must not fill our memory
            return
        parts = [STATUS_LINE[status]]
        for name, value in protocol.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        ends = not self.keep_alive or (protocol.closing and not protocol.pipeline)
        parts += (head, b"content-length: %d\r\n" % len(content), _CLOSE if ends else b"", b"\r\n")
        if self._method != b"HEAD":
            parts.append(content)
        transport.write(b"".join(parts))
        if ends:
            transport.close()
        protocol.on_response_complete()
