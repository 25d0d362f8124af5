"""Owns the restart of embedded servers that die while others go on for them."""

import time
from collections.abc import Sequence
from typing import Final

from dianzan.local.folder import EmbeddedError
from dianzan.local.server import Server

REVIVE_EVERY_S: Final = 5.0  # of one server, so that one that cannot run does not keep the machine busy


class Revival:
    """Watches servers of which one may die. `notices` are sentences for the operator."""

    def __init__(self, servers: Sequence[Server], notices: list[str]) -> None:
        self._servers = servers
        self._notices = notices
        self._revived_s: dict[Server, float] = {}

    def look(self) -> None:
        """Start servers again that have died, which `notices` says. Waits for none of them."""
        for server in self._servers:
            if (died := server.death()) and time.monotonic() >= self._revived_s.get(server, 0.0) + REVIVE_EVERY_S:
                self._revived_s[server] = time.monotonic()
                self._revive(server, died)

    def _revive(self, server: Server, died: str) -> None:
        said = died.splitlines()[0].partition(" Last lines")[0]
        try:
            server.launch()
        except (EmbeddedError, OSError) as error:
            self._notices.append(f"{said} It could not be started again: {error}")
        else:
            self._notices.append(f"{said} It is started again (process {server.pid}); everything else goes on.")
