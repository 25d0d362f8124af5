"""Runs a tally worker: `python -m tally_worker`."""

from __future__ import annotations

import uvicorn

from dianzan.process import logs
from tally_worker.app import create_app
from tally_worker.settings import WorkerSettings


def main() -> None:
    """Flush until SIGTERM; then finish the flush that runs and end."""
    settings = WorkerSettings()
    logs.configure(settings.log_level, "tally_worker")
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.worker_port,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
