"""Runs the results API: `python -m results_api`."""

from __future__ import annotations

from dianzan.http import server
from dianzan.process import logs
from results_api.app import create_app
from results_api.settings import ResultsSettings
from results_api.state import ResultsState


def main() -> None:
    """Serve until SIGTERM; open streams are ended at once, since a reader would hold the process for ever."""
    settings = ResultsSettings()
    logs.configure(settings.log_level, "results_api")
    server.serve(
        create_app(settings),
        host=settings.host,
        port=settings.results_port,
        graceful_s=3,
        drain_s=settings.drain_s,
        at_end=_end_streams,
    )


def _end_streams(state: ResultsState) -> None:
    state["streams"].stop()


if __name__ == "__main__":
    main()
