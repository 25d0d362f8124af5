"""What redis-py raises, as the errors of this project: mapped once, where it enters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis import exceptions

from dianzan.domain.errors import StoreAway, StoreError, StoreFull

# Refusals that say another server takes this now, or will in a moment.
_ELSEWHERE: Final = (
    exceptions.AskError,  # MOVED too
    exceptions.TryAgainError,
    exceptions.MasterDownError,
    exceptions.ReadOnlyError,
)


@contextmanager
def mapped(asked: str = "A command") -> Iterator[None]:
    """Raise StoreAway, StoreFull or StoreError for redis-py's errors inside this block, with those as their cause.

    `asked` names in a refusal what was asked for.
    """
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise StoreFull(f"The store is full ({error}).") from error
    except _ELSEWHERE as error:
        raise StoreAway(f"Another server of the store takes this now ({error}).") from error
    except exceptions.ClusterDownError as error:
        said = "The cluster takes no requests: too many of its servers are away, or an election runs."
        raise StoreAway(said) from error
    except exceptions.ResponseError as error:
        raise StoreError(f"{asked} was refused by the store: {error}") from error
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        raise StoreAway(f"The store does not answer ({type(error).__name__}: {error})") from error
