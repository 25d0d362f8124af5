"""What asyncpg raises, as the errors of this project: mapped once, where it enters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from dianzan.domain.errors import LedgerAway, LedgerError, LedgerRefuses

# Postgres is away, shutting down, failing over, a standby not yet promoted, out of disk or connections, or it chose
# this transaction to end a deadlock.
_AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a session that the server ends between two queries of ours
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
    OSError,
    TimeoutError,
)
_REFUSES: Final = (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)


@contextmanager
def mapped() -> Iterator[None]:
    """Raise LedgerAway or LedgerRefuses for asyncpg's errors inside this block, with those as their cause."""
    try:
        yield
    except _AWAY as error:
        raise LedgerAway(f"Postgres does not answer ({type(error).__name__}: {error})") from error
    except _REFUSES as error:
        raise LedgerRefuses(f"Postgres refuses this ({type(error).__name__}: {error})") from error
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise LedgerError(f"Postgres does not let us in ({error}): is DIANZAN_DATABASE_URL right?") from error
    except asyncpg.UndefinedTableError as error:
        raise LedgerError("The database has no tables yet: run dianzan migrate.") from error
