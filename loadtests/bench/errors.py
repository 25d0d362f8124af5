"""What makes a run prove nothing."""

from __future__ import annotations


class BenchError(Exception):
    """A server did not start, a count was wrong, or a request was not answered 200; the text says which."""


class Skipped(Exception):
    """A peer or tool is not installed here; the text says what to install."""
