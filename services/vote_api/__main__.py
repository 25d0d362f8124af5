"""Runs the vote API: `python -m vote_api`."""

from __future__ import annotations

import uvicorn

from dianzan.domain.errors import StoreError
from dianzan.process import logs
from dianzan.store.nodes import refuse_no_address
from vote_api.app import create_app
from vote_api.likes.protocol import LikeProtocol
from vote_api.settings import VoteSettings


def main() -> None:
    """Serve until SIGTERM; then answer what was accepted and end."""
    settings = VoteSettings()
    logs.configure(settings.log_level, "vote_api")
    try:
        refuse_no_address(settings.redis_url)
    except StoreError as error:
        logs.get(__name__).error("the vote API does not start", reason=str(error))
        raise SystemExit(1) from error
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.vote_port,
        loop="uvloop",
        http=LikeProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=75,  # longer than a proxy's idle time-out of 60 s, so the proxy closes first
        timeout_graceful_shutdown=20,
        backlog=4_096,
    )


if __name__ == "__main__":
    main()
