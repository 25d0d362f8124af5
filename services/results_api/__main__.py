"""Runs the results API: `python -m results_api`."""

from __future__ import annotations

from types import FrameType

import uvicorn

from dianzan.domain.limits import STREAMS_MAX
from dianzan.process import logs
from dianzan.process.machine import raise_open_files
from results_api.app import create_app
from results_api.settings import ResultsSettings
from results_api.streams import Streams


def main() -> None:
    """Serve until SIGTERM; open streams are ended at once, since a reader would hold the process for ever."""
    settings = ResultsSettings()
    logs.configure(settings.log_level, "results_api")
    app = create_app(settings, streams_max=min(STREAMS_MAX, raise_open_files()))
    server = _Server(
        uvicorn.Config(
            app,
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
        ),
        app.streams,
    )
    server.run()


class _Server(uvicorn.Server):
    """uvicorn waits for open responses before the lifespan ends, so the streams must hear of a signal earlier."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._streams.stop()
        super().handle_exit(sig, frame)


if __name__ == "__main__":
    main()
