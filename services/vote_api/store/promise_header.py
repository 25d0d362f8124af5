"""Says on every answer that the store's promise is waived, for as long as it is."""

from __future__ import annotations

from dianzan.http.asgi import App, Message, Receive, Scope, Send
from vote_api.state import VoteState


class PromiseHeader:
    """Adds `dianzan-promise: waived` where a development switch lets a store serve that may lose likes."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Costs one attribute read a request while the promise is kept."""
        state: VoteState = scope["state"]
        if scope["type"] != "http" or not state["watch"].waived:
            await self._app(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"dianzan-promise", b"waived")]
            await send(message)

        await self._app(scope, receive, send_marked)
