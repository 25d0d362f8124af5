"""A document as bytes, with the ASGI messages that answer a request for it: built once, sent to every reader."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from dianzan.domain.errors import ApiError
from dianzan.http import problem
from dianzan.http.asgi import Message

Answer = tuple[Message, Message]

# A second of caching takes reloading crowds off this process; no longer, since likes are shown within two seconds.
SHORT = "public, max-age=1"
# Said to everyone, not only to readers from other sites, since a cache between keeps one answer for both.
OPEN_TO_ALL = {"access-control-allow-origin": "*", "access-control-expose-headers": "date, etag, retry-after"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """A document, the entity tag of its content, and its two answers: whole (200), and unchanged (304)."""

    body: bytes
    etag: str
    whole: Answer = field(repr=False)
    unchanged: Answer = field(repr=False)

    @classmethod
    def of(cls, content: bytes, tagged: bytes | None = None, media_type: str = "application/json") -> Rendered:
        """Render; `tagged` is what the tag is made of where the body also holds the time of reading."""
        etag = f'"{hashlib.blake2b(content if tagged is None else tagged, digest_size=12).hexdigest()}"'
        headers = {"etag": etag, "cache-control": SHORT, **OPEN_TO_ALL}
        return cls(
            content,
            etag,
            _answer(200, {"content-type": media_type, "content-length": str(len(content)), **headers}, content),
            _answer(304, headers, b""),
        )


def refusal(error: ApiError) -> Answer:
    """The problem document of an error."""
    content = problem.body(error)
    headers = {"content-type": problem.MEDIA_TYPE, "content-length": str(len(content)), **problem.headers(error)}
    return _answer(error.status, {**headers, **OPEN_TO_ALL}, content)


def start(status: int, headers: dict[str, str]) -> Message:
    """The message that begins an answer."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": raw}


def _answer(status: int, headers: dict[str, str], content: bytes) -> Answer:
    return start(status, headers), {"type": "http.response.body", "body": content}
