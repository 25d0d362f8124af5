"""Runs a tally worker: `python -m tally_worker`."""

from __future__ import annotations

from dianzan.http import server
from dianzan.process import logs
from tally_worker.app import create_app
from tally_worker.settings import WorkerSettings


def main() -> None:
    """Flush until SIGTERM; then finish the flush that runs and end."""
    settings = WorkerSettings()
    logs.configure(settings.log_level, "tally_worker")
    server.serve(create_app(settings), host=settings.host, port=settings.worker_port, graceful_s=5)


if __name__ == "__main__":
    main()
