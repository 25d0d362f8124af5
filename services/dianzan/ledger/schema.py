"""The tables: which migrations a database has had, and those that it lacks."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

import asyncpg

from dianzan.domain.errors import LedgerError
from dianzan.ledger.queries import Connection, queries


async def migrate(connection: Connection) -> list[str]:
    """Apply the migrations that are missing, in order and in one transaction; returns their names.

    Safe to run from many processes. Raises LedgerError for a database that `refuse_unknown` refuses, or that cannot
    hold Chinese text.
    """
    texts = migrations()
    async with connection.transaction():
        # Of the transaction, not of the session: behind a pooler the next query may be on another session.
        await connection.execute(queries()["lock_migrations"])
        encoding = await connection.fetchval(queries()["server_encoding"])
        if encoding != "UTF8":
            raise LedgerError(
                f"The database of DIANZAN_DATABASE_URL holds text as {encoding}, in which Chinese names have no place: "
                "create another one, CREATE DATABASE dianzan ENCODING 'UTF8' TEMPLATE template0."
            )
        await connection.execute(queries()["migrations_table"])
        done = await refuse_unknown(connection)
        for name, text in texts.items():
            if name not in done:
                await connection.execute(text)
                await connection.execute(queries()["record_migration"], name)
        for name, text in texts.items():
            await connection.execute(queries()["record_digest"], name, _digest(text))
    return [name for name in texts if name not in done]


async def refuse_unknown(connection: Connection) -> set[str]:
    """The names of the migrations applied; none where there are no tables yet.

    Raises LedgerError if one is unknown here (a newer release's) or is another one than ours of that name: its tables
    are not those that our queries are written for. One applied before digests were kept is taken as ours.
    """
    try:
        applied = await connection.fetch(queries()["migrations_applied"])
    except asyncpg.UndefinedTableError:
        return set()
    texts = migrations()
    unknown = [record["name"] for record in applied if record["name"] not in texts]
    if unknown:
        raise LedgerError(
            f"The database has had the migration {unknown[-1]}, which this release does not know: "
            "it is of a newer release. Run that release, or bring back a backup made before it."
        )
    for record in applied:
        if record["digest"] not in (None, _digest(texts[record["name"]])):
            raise LedgerError(
                f"The database has had another migration {record['name']} than this release holds: "
                "one of the two was edited. Run the release that the database was made by."
            )
    return {record["name"] for record in applied}


def migrations() -> dict[str, str]:
    """Name -> text, in the order in which they are applied."""
    folder = files("dianzan.ledger") / "migrations"
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".sql"))
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
