"""Says on every answer that the store's promise is waived, for as long as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from vote_api.likes.body import Receive, Scope
from vote_api.store.watch import StoreWatch

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class PromiseHeader:
    """Adds `dianzan-promise: waived` where a development switch lets a store serve that may lose likes."""

    def __init__(self, app: App, *, watch: StoreWatch) -> None:
        self._app, self._watch = app, watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Costs one attribute read a request while the promise is kept."""
        if scope["type"] != "http" or not self._watch.waived:
            await self._app(scope, receive, send)
            return

        async def send_marked(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"dianzan-promise", b"waived")]
            await send(message)

        await self._app(scope, receive, send_marked)
