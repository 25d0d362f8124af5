"""The public routes: plain ASGI in front of the FastAPI app, whose layers cost a reader four times all the rest."""

from __future__ import annotations

import re

from dianzan.domain.codes import folded
from dianzan.domain.errors import ApiError, MethodNotAllowed, ResultsHidden
from dianzan.http.asgi import App, Receive, Scope, Send
from dianzan.process import metrics
from results_api.rendered import Rendered, refusal
from results_api.state import ResultsState
from results_api.view import Snapshots

STREAM = "results/stream"
_PATH = re.compile(
    rf"/v1/campaigns(?:/([^/]+)(?:/(results|timeline|tally\.csv|tally\.json|{STREAM})|/candidates/([^/]+))?)?"
)
_COUNTERS = {
    kind: metrics.READS.labels(kind)
    for kind in ("campaigns", "campaign", "results", "candidate", "timeline", "tally.csv", "tally.json")
}


class ReadRoutes:
    """Answers the addresses under `/v1/campaigns`; everything else goes on to the app behind it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; errors become problem documents here and nowhere else on this path."""
        matched = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if matched is None or scope["method"] == "OPTIONS":  # a preflight is answered by the CORS layer
            await self._app(scope, receive, send)
            return
        state: ResultsState = scope["state"]
        campaign, name, code = matched.groups()
        if campaign is not None and not campaign.islower():
            campaign = folded(campaign)
        try:
            allowed = ("GET",) if name == STREAM else ("GET", "HEAD")
            if scope["method"] not in allowed:
                raise MethodNotAllowed("The results are read by GET.", allow=", ".join(allowed))
            if name == STREAM:
                client = scope.get("client")
                await state["streams"].serve(campaign, client[0] if client else "", receive, send)
                return
            kind, rendered = _find(state["snapshots"], campaign, name, code)
        except ApiError as error:
            head, body = refusal(error)
        else:
            _COUNTERS[kind].inc()
            head, body = rendered.unchanged if _has(scope, rendered.etag) else rendered.whole
        await send(head)
        await send(body)


def _find(snapshots: Snapshots, campaign: str | None, name: str | None, code: str | None) -> tuple[str, Rendered]:
    if campaign is None:
        return "campaigns", snapshots.campaign_list
    if code is not None:
        return "candidate", snapshots.candidate(campaign, code)
    published = snapshots.of(campaign)
    if name is None:
        return "campaign", published.summary
    if published.hidden and name.startswith("tally"):
        raise ResultsHidden("The tally is published when the campaign is sealed.")
    return name, published.documents[name]


def _has(scope: Scope, etag: str) -> bool:
    """Whether the reader has the document already."""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            return etag.encode() in value or value.strip() == b"*"
    return False
