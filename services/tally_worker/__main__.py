"""Runs a tally worker: `python -m tally_worker`."""

from __future__ import annotations

import asyncio

from dianzan.domain.errors import LedgerError, StoreError
from dianzan.http import server
from dianzan.ledger.ledger import Ledger
from dianzan.process import logs
from dianzan.store.nodes import refuse_no_address
from tally_worker.app import create_app
from tally_worker.settings import WorkerSettings


def main() -> None:
    """Flush until SIGTERM; then finish the flush that runs and end."""
    settings = WorkerSettings.of_process()
    logs.configure(settings.log_level, "tally_worker")
    try:
        refuse_no_address(settings.redis_url)
        asyncio.run(Ledger.refuse_unusable(settings.database_url))
    except (LedgerError, StoreError) as error:
        logs.get(__name__).error("the tally worker does not start", reason=str(error))
        raise SystemExit(1) from error
    server.serve(create_app(settings), host=settings.host, port=settings.worker_port, graceful_s=5)


if __name__ == "__main__":
    main()
