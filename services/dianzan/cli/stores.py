"""How a command finds the running stores: the two URLs, or the data folder of a running `dianzan up`."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, TypeVar

import typer

from dianzan.domain.errors import DianzanError, LedgerAway, LedgerError, StoreAway, StoreError
from dianzan.ledger.ledger import Ledger
from dianzan.life.lifecycle import Lifecycle
from dianzan.life.restore import Restorer
from dianzan.life.seal import Sealer
from dianzan.local.stores import StoreAddresses, find_stores
from dianzan.store.nodes import connect, refuse_no_address
from dianzan.store.store import Store

DATA_DEFAULT = Path(".dianzan")
# What writing raises where the reader of a pipe has gone or the disk is full; no connection to a store raises them.
OF_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

Data = Annotated[
    Path,
    typer.Option(
        "--data", envvar="DIANZAN_DATA", help="Data folder of a running `dianzan up`, unless both store URLs are set."
    ),
]

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores, open, and the campaign steps over them."""

    store: Store
    ledger: Ledger
    lifecycle: Lifecycle
    sealer: Sealer
    restorer: Restorer

    @classmethod
    def over(cls, store: Store, ledger: Ledger) -> Self:
        """The steps over two open stores."""
        lifecycle = Lifecycle(store, ledger)
        return cls(store, ledger, lifecycle, Sealer(store, ledger, lifecycle), Restorer(store, ledger))

    async def prepare(self) -> list[str]:
        """Create or update the tables and load the store's functions; returns what was done, a line each.

        Without its functions the store keeps no promise, and the vote API would wait for the first publication.
        """
        applied = [f"applied {name}" for name in await self.ledger.migrate()]
        return applied + [f"loaded the functions into {address}" for address in await self.store.load_library()]


def addresses(data: Path) -> StoreAddresses:
    """The stores named in the environment, with `DIANZAN_STORE_MODE`; otherwise those that run on the data folder."""
    redis_url, database_url = os.environ.get("DIANZAN_REDIS_URL"), os.environ.get("DIANZAN_DATABASE_URL")
    if redis_url and database_url:
        return StoreAddresses(redis_url, database_url, replicated=_replicated())
    if redis_url or database_url:
        raise StoreError("Set both DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL, or neither.")
    return find_stores(data)


def _replicated() -> bool:
    mode = os.environ.get("DIANZAN_STORE_MODE", "one-node")
    if mode not in ("one-node", "replicated"):
        raise StoreError(f"DIANZAN_STORE_MODE is {mode!r}: set it to one-node or replicated.")
    return mode == "replicated"


@asynccontextmanager
async def open_stores(found: StoreAddresses) -> AsyncIterator[Stores]:
    """Both stores for the length of a command. What they raise where they are away becomes one sentence."""
    refuse_no_address(found.redis_url)
    store = Store(connect(found.redis_url, replicated=found.replicated))
    ledger = await Ledger.connect(found.database_url)
    try:
        yield Stores.over(store, ledger)
    except LedgerAway as error:
        raise LedgerError(f"{error}: is DIANZAN_DATABASE_URL right?") from error
    except StoreAway as error:
        raise StoreError(f"{error}: is DIANZAN_REDIS_URL right?") from error
    finally:
        await store.aclose()
        await ledger.aclose()


def run(data: Path, work: Callable[[Stores], Awaitable[Answer]]) -> Answer:
    """Run a command's work against the stores; a refusal is printed as a sentence and ends with exit code 1."""

    async def with_stores() -> Answer:
        async with open_stores(addresses(data)) as stores:
            return await work(stores)

    with refusals_said():
        return asyncio.run(with_stores())


@contextmanager
def refusals_said() -> Iterator[None]:
    """Print a refusal inside this block as a sentence, and end with exit code 1."""
    try:
        yield
    except DianzanError as error:
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        raise typer.Exit(1) from error
