"""What holds for every answer: headers by which browsers do no more with it than it is for, and HEAD beside GET."""

from __future__ import annotations

from typing import Final

from dianzan.http.asgi import App, Message, Receive, Scope, Send

CLOSED: Final = "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_DATA: Final = f"default-src 'none'; {CLOSED}"
# FastAPI's pages about an API hold scripts and styles of their own; a setting leaves them out.
_DOCS: Final = f"default-src 'self' 'unsafe-inline'; img-src 'self' data:; worker-src blob:; {CLOSED}"
DOCS_PATHS: Final = ("/docs", "/redoc")


NO_SNIFF: Final = (b"x-content-type-options", b"nosniff")
_NO_REFERRER: Final = (b"referrer-policy", b"no-referrer")
OF_DATA: Final = (NO_SNIFF, (b"content-security-policy", _DATA.encode()), _NO_REFERRER)


class Strict:
    """Adds the headers that an answer does not have yet, and asks the app by GET where a client asks by HEAD.

    The server leaves out the body of an answer to HEAD. A stream has no end, so it is not asked.
    """

    def __init__(self, app: App, *, endless: str = "/stream") -> None:
        self._app, self._endless = app, endless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; costs a few microseconds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        policy = _DOCS if scope["path"].startswith(DOCS_PATHS) else _DATA

        async def send_strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _completed(message["headers"], policy)}
            await send(message)

        if scope["method"] == "HEAD" and not scope["path"].endswith(self._endless):
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send_strict)


def _completed(headers: list[tuple[bytes, bytes]], policy: str) -> list[tuple[bytes, bytes]]:
    named = {name.lower() for name, _value in headers}
    wanted = (NO_SNIFF, (b"content-security-policy", policy.encode()), _NO_REFERRER)
    return [*headers, *(header for header in wanted if header[0] not in named)]
