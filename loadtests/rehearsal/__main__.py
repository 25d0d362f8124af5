"""Runs a rehearsal: `python -m loadtests.rehearsal`; exit code 1 if a single like differs."""

from __future__ import annotations

import typer

from loadtests.rehearsal.command import rehearse

if __name__ == "__main__":
    typer.run(rehearse)
