"""The ledger's address as people write it, and whether what it names can serve: one sentence if not."""

from __future__ import annotations

import os
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from dianzan.domain.errors import LedgerError

SETTING: Final = "DIANZAN_DATABASE_URL"
_CONNECT_S: Final = 5
_SCHEMES: Final = ("postgresql", "postgres")


def connection_options(url: str) -> dict[str, Any]:
    """What asyncpg is to be given for an address. Raises LedgerError for one that is none of PostgreSQL.

    Two parameters are ours: `connect_timeout` in seconds, as libpq has it, and `pgbouncer=true`, which says that a
    pooler in transaction mode stands before the server. Others are asyncpg's, or settings of the server's session.
    """
    try:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        for host in parts.netloc.rpartition("@")[2].split(","):
            one = urlsplit(f"//{host}")
            _ = one.port, (one.hostname or "").encode("idna")  # which both must make sense
    except ValueError as error:  # of which UnicodeError is one
        raise LedgerError(
            f"{SETTING} is no address ({error}): in a password [ is written %5B, ] %5D, : %3A, / %2F and @ %40."
        ) from error
    if parts.scheme not in _SCHEMES:
        scheme = f"begins with {parts.scheme}://" if parts.scheme else "has no scheme"
        raise LedgerError(
            f"That is no address of PostgreSQL: is {SETTING} right? "
            f"It {scheme}: write postgresql://USER:PASSWORD@HOST:5432/DATABASE."
        )
    options: dict[str, Any] = {"timeout": _number(parameters.pop("connect_timeout", str(_CONNECT_S)))}
    pooled = parameters.pop("pgbouncer", "false")
    if pooled not in ("true", "false"):
        raise LedgerError(f"{SETTING}: pgbouncer is {pooled!r}; write pgbouncer=true, or leave it out.")
    if pooled == "true":
        options["statement_cache_size"] = 0  # a prepared statement is the session's, and each transaction has another
    for name in ("sslrootcert", "sslcert", "sslkey"):
        if parameters.get(name) and not os.access(parameters[name], os.R_OK):
            raise LedgerError(f"{SETTING}: {name} names {parameters[name]}, which cannot be read.")
    bare, _, _ = url.partition("?")  # as it was typed: hosts may be several, or none where there is a socket
    return {"dsn": f"{bare}?{urlencode(parameters)}" if parameters else bare, **options}


def _number(text: str) -> float:
    if not text.isascii() or not text.isdigit():
        raise LedgerError(f"{SETTING}: connect_timeout is {text!r}; write whole seconds, such as connect_timeout=5.")
    return float(text) or _CONNECT_S  # libpq's 0 waits for ever
