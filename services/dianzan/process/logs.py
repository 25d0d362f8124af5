"""Structured logs: one JSON object a line on standard error; equal lines are written once a second, and counted."""

from __future__ import annotations

import logging
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, Final

import structlog

from dianzan.process.settings import unread

EQUAL_LINES_EVERY_S: Final = 1.0
KINDS_MAX: Final = 1_000  # above it those whose second is over are forgotten


def configure(level: str, service: str) -> None:
    """Send structlog and the standard library's logs through one JSON renderer, `service` on every line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    handler = CountingHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _repeated],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for sentence in unread():
        get(__name__).warning("a setting is not read", reason=sentence)


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for one module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


@dataclass(slots=True)
class _Equal:
    """The last of several equal lines, how many were not written, and when the last one was."""

    written_s: float
    record: logging.LogRecord
    unwritten: int = 0


class CountingHandler(logging.StreamHandler[Any]):
    """Writes of equal lines the first, and each second one more with `repeated`: how many it stands for.

    Whoever sends a process what it logs could otherwise fill its disk. Lines that differ in any field are all written.
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._equal: dict[str, _Equal] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or count it."""
        now_s, kind = time.monotonic(), _kind(record)
        equal = self._equal.get(kind)
        if equal is not None and now_s - equal.written_s < EQUAL_LINES_EVERY_S:
            equal.record, equal.unwritten = record, equal.unwritten + 1
            self._tell_later()
            return
        if len(self._equal) >= KINDS_MAX:
            self._tell(now_s - EQUAL_LINES_EVERY_S)
        unwritten = equal.unwritten if equal is not None else 0
        self._equal[kind] = _Equal(now_s, record)
        self._write(record, unwritten + 1)

    def close(self) -> None:
        """Write what was only counted."""
        with self.lock or threading.RLock():
            if self._timer is not None:
                self._timer.cancel()
            self._tell(time.monotonic())
        super().close()

    def _tell_later(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(EQUAL_LINES_EVERY_S, self._on_time)
            self._timer.daemon = True
            self._timer.start()

    def _on_time(self) -> None:
        with self.lock or threading.RLock():
            self._timer = None
            self._tell(time.monotonic() - EQUAL_LINES_EVERY_S)
            if any(equal.unwritten for equal in self._equal.values()):
                self._tell_later()

    def _tell(self, written_before_s: float) -> None:
        for kind, equal in list(self._equal.items()):
            if equal.written_s <= written_before_s:
                del self._equal[kind]
                if equal.unwritten:
                    self._equal[kind] = _Equal(time.monotonic(), equal.record)
                    self._write(equal.record, equal.unwritten)

    def _write(self, record: logging.LogRecord, repeated: int) -> None:
        if repeated > 1:
            record.repeated = repeated
            if isinstance(record.msg, dict):
                record.msg["repeated"] = repeated
        super().emit(record)


def _kind(record: logging.LogRecord) -> str:
    if isinstance(record.msg, dict):
        fields = {name: value for name, value in record.msg.items() if name != "timestamp"}
        return f"{record.name} {record.levelno} {fields!r}"
    return f"{record.name} {record.levelno} {record.getMessage()} {record.exc_info and record.exc_info[1]!r}"


def _repeated(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    repeated = getattr(event["_record"], "repeated", None)
    return event if repeated is None else {**event, "repeated": repeated}
