"""Asks before a step that people will see or that cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dianzan.domain.errors import DianzanError

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; without a terminal this is needed.")]


def require_agreement(question: str, *, yes: bool) -> None:
    """Return if the operator agrees, by --yes or at the terminal. Raises DianzanError if not."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise DianzanError("Nothing was changed, since nobody could be asked: run this again with --yes.")
    if not typer.confirm(question, err=True):
        raise DianzanError("Nothing was changed.")
