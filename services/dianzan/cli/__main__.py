"""Runs the command line: `python -m dianzan.cli`."""

from __future__ import annotations

from dianzan.cli.main import main

if __name__ == "__main__":
    main()
