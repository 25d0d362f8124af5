"""What asyncpg raises, as the errors of this project: mapped once, where it enters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from dianzan.domain.errors import LedgerAway, LedgerError, LedgerRefuses

# Postgres is away, shutting down, failing over, a standby not yet promoted, out of disk or connections, its disk fails,
# or it ended this transaction: for a deadlock, a lock that another one holds, or a process that stood still.
_AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a session that the server ends between two queries of ours
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,
    OSError,
    TimeoutError,
)
_REFUSES: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)


@contextmanager
def mapped() -> Iterator[None]:
    """Raise LedgerAway, LedgerRefuses or LedgerError for asyncpg's errors inside this block, with those as cause."""
    try:
        yield
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise LedgerError(f"DIANZAN_DATABASE_URL cannot be used ({error}): mend it.") from error
    except _AWAY as error:
        raise LedgerAway(f"Postgres does not answer ({_said(error)})") from error
    except _REFUSES as error:
        raise LedgerRefuses(f"Postgres refuses this ({_said(error)})") from error
    except asyncpg.PostgresError as error:
        raise LedgerError(_sentence(error)) from error


def _said(error: Exception) -> str:
    """On one line; a time-out of asyncio has no text."""
    return ": ".join(filter(None, (type(error).__name__, _first_line(error))))


# What an operator is to do about an answer that no retry changes.
_ADVICE: Final[tuple[tuple[tuple[type[asyncpg.PostgresError], ...], str], ...]] = (
    (
        (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError),
        "Postgres does not let us in ({error}): is DIANZAN_DATABASE_URL right?",
    ),
    ((asyncpg.UndefinedTableError,), "The database has no tables yet: run dianzan migrate."),
    (
        (asyncpg.UndefinedColumnError,),
        "The database's tables are of an older release ({error}): run dianzan migrate.",
    ),
    (
        (asyncpg.InsufficientPrivilegeError,),
        "The role of DIANZAN_DATABASE_URL may not do this ({error}): grant it what deploy/README.md lists for it, or "
        "use the role that owns the tables.",
    ),
    (
        (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError),
        "A pooler in transaction mode stands before Postgres ({error}): add ?pgbouncer=true to DIANZAN_DATABASE_URL.",
    ),
    (
        (asyncpg.UndefinedObjectError, asyncpg.CantChangeRuntimeParamError),
        "Postgres does not know a name that it was given ({error}): if it is a parameter of DIANZAN_DATABASE_URL, take "
        "it out.",
    ),
)


def _sentence(error: asyncpg.PostgresError) -> str:
    usual = "Postgres refuses this ({kind}: {error})."
    advice = next((advice for kinds, advice in _ADVICE if isinstance(error, kinds)), usual)
    return advice.format(error=_first_line(error), kind=type(error).__name__)


def _first_line(error: Exception) -> str:
    """Without the server's detail, in which a row's voter may stand, and without its hint."""
    return str(error).partition("\n")[0]
