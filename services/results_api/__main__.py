"""Runs the results API: `python -m results_api`."""

from __future__ import annotations

import asyncio

from dianzan.domain.errors import LedgerError
from dianzan.http import server
from dianzan.ledger.ledger import Ledger
from dianzan.process import logs
from results_api.app import create_app
from results_api.settings import ResultsSettings
from results_api.state import ResultsState


def main() -> None:
    """Serve until SIGTERM; open streams are ended at once, since a reader would hold the process for ever."""
    settings = ResultsSettings.of_process()
    logs.configure(settings.log_level, "results_api")
    try:
        asyncio.run(Ledger.refuse_unusable(settings.database_url))
    except LedgerError as error:
        logs.get(__name__).error("the results API does not start", reason=str(error))
        raise SystemExit(1) from error
    server.serve(
        create_app(settings),
        host=settings.host,
        port=settings.results_port,
        graceful_s=3,
        drain_s=settings.drain_s,
        trusted_proxies=settings.trusted_proxies,
        at_end=_end_streams,
    )


def _end_streams(state: ResultsState) -> None:
    state["streams"].stop()


if __name__ == "__main__":
    main()
