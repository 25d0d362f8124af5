"""Runs the vote API: `python -m vote_api`."""

from __future__ import annotations

from dianzan.domain.errors import StoreError
from dianzan.http import server
from dianzan.process import logs
from dianzan.store.nodes import refuse_no_address
from vote_api.app import create_app
from vote_api.likes.protocol import LikeProtocol
from vote_api.settings import VoteSettings


def main() -> None:
    """Serve until SIGTERM; then stop being ready, answer what comes and what was accepted, and end."""
    settings = VoteSettings.of_process()
    logs.configure(settings.log_level, "vote_api")
    try:
        refuse_no_address(settings.redis_url)
    except StoreError as error:
        logs.get(__name__).error("the vote API does not start", reason=str(error))
        raise SystemExit(1) from error
    server.serve(
        create_app(settings),
        host=settings.host,
        port=settings.vote_port,
        protocol=LikeProtocol,
        keep_alive_s=75,  # longer than a proxy's idle time-out of 60 s, so the proxy closes first
        graceful_s=20,
        drain_s=settings.drain_s,
        trusted_proxies=settings.trusted_proxies,
    )


if __name__ == "__main__":
    main()
