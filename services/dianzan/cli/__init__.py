"""The `dianzan` command."""

from __future__ import annotations

from dianzan.cli.main import main

__all__ = ["main"]
