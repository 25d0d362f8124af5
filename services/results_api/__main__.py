"""Runs the results API: `python -m results_api`."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from dianzan.domain.errors import LedgerError
from dianzan.ledger.ledger import Ledger
from dianzan.process import logs
from results_api.app import create_app
from results_api.settings import ResultsSettings
from results_api.streams import Streams


def main() -> None:
    """Serve until SIGTERM; open streams are ended at once, since a reader would hold the process for ever."""
    settings = ResultsSettings.of_process()
    logs.configure(settings.log_level, "results_api")
    try:
        asyncio.run(Ledger.refuse_unusable(settings.database_url))
    except LedgerError as error:
        logs.get(__name__).error("the results API does not start", reason=str(error))
        raise SystemExit(1) from error
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.results_port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        backlog=4_096,  # readers that all come again after a restart
    )
    _Server(config).run()


class _Server(uvicorn.Server):
    """uvicorn waits for open responses before the lifespan ends, so the streams must be ended earlier."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then as uvicorn does."""
        streams: Streams = self.lifespan.state["streams"]
        streams.stop()
        await super().shutdown(sockets)


if __name__ == "__main__":
    main()
