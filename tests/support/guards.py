"""What no test may leave behind: keys nobody owns, and errors that were logged but not raised."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from redis import Redis

from dianzan.store import keys

ERROR_LEVELS = ("error", "critical")
# asyncpg 0.32 leaves this future behind, to be found by the garbage collector at any later moment, when a server ends a
# connection during its handshake. The same error is raised to the caller, who handles it.
LEFT_BY_ASYNCPG = "ConnectionError('unexpected connection_lost() call')"


_owned: set[bytes] = set()  # keys that were looked at before; a store of many campaigns has thousands


def leaked_keys(redis_url: str) -> list[str]:
    """Keys in the store that have no place in keys.py."""
    with Redis.from_url(redis_url) as client:
        new = {key for key in client.scan_iter(count=1_000) if key not in _owned}
    leaked = {key for key in new if keys.parse(key.decode("utf-8", "replace")) is None}
    _owned.update(new - leaked)
    return sorted(key.decode("utf-8", "replace") for key in leaked)


class LogWatch:
    """Reads what the services log from where it last stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def new_errors(self) -> list[str]:
        """Lines of error level, or that are no log lines at all (a traceback), since the last call."""
        return [
            line for path in sorted(self._folder.glob("*.log")) for line in self._new_lines(path) if _is_error(line)
        ]

    def _new_lines(self, path: Path) -> list[str]:
        with path.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._offsets.get(path, 0))
            lines = log.read().splitlines()
            self._offsets[path] = log.tell()
        return lines


def _is_error(line: str) -> bool:
    try:
        return json.loads(line).get("level") in ERROR_LEVELS and LEFT_BY_ASYNCPG not in line
    except ValueError:
        return bool(line.strip())


class ErrorRecords(logging.Handler):
    """Keeps what this process itself logs at error level, asyncio's lost exceptions included."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        text = self.format(record)
        if LEFT_BY_ASYNCPG not in text:
            self.records.append(text)
