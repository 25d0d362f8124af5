"""What the results API holds while it runs: made in app.py; the server hands it to every request."""

from __future__ import annotations

from typing import TypedDict

from results_api.settings import ResultsSettings
from results_api.streams import Streams
from results_api.view import Snapshots


class ResultsState(TypedDict):
    """What the lifespan yields."""

    settings: ResultsSettings
    snapshots: Snapshots
    streams: Streams
    draining: bool  # whether this process is asked to end, which the server says
