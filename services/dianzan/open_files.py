"""The limit on open files of this process: every connection is one."""

from __future__ import annotations

import resource

KEPT_FREE = 256  # for Postgres, logs, and readers who ask for one document


def raise_limit() -> int:
    """Raise the soft limit, often 1,024, to the hard one; returns how many connections may then be held for long."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - KEPT_FREE if hard != resource.RLIM_INFINITY else 2**31
