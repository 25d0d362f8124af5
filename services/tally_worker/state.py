"""What the tally worker holds while it runs: made in app.py; the server hands it to every request."""

from __future__ import annotations

from typing import TypedDict

from tally_worker.flush_loop import FlushLoop


class WorkerState(TypedDict):
    """What the lifespan yields."""

    loop: FlushLoop
