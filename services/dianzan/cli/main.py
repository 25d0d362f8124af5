"""All commands of `dianzan`."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Annotated

import typer

from dianzan.cli import audit, campaign
from dianzan.cli.stores import DATA_DEFAULT, OF_OUTPUT, Data, Stores, addresses, refusals_said, run
from dianzan.cli.token import token
from dianzan.cli.up import up
from dianzan.domain.errors import DianzanError
from dianzan.process import faults
from dianzan.process.settings import WRONG, read_files

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="dianzan (点赞): takes the likes of a public campaign, and can prove the tally.",
)
app.command()(up)
app.add_typer(campaign.app, name="campaign")
app.command()(token)
app.command()(audit.seal)
app.command("recount")(audit.recount_command)
app.command()(audit.record)
app.command()(audit.restore)


@app.command()
def migrate(
    data: Data = DATA_DEFAULT,
    results_role: Annotated[
        str, typer.Option(envvar="DIANZAN_RESULTS_ROLE", help="A role to be granted what the results API reads.")
    ] = "",
) -> None:
    """Create or update the database's tables, and load the store's functions."""

    async def work(stores: Stores) -> list[str]:
        done = await stores.prepare()
        if results_role:
            await stores.ledger.grant_reader(results_role)
        return done

    typer.echo("\n".join(run(data, work)) or "nothing to do")


@app.command()
def env(data: Data = DATA_DEFAULT) -> None:
    """Print the two store URLs as NAME=VALUE lines, for processes started beside `dianzan up`."""
    with refusals_said():
        found = addresses(data)
    typer.echo(f"DIANZAN_REDIS_URL={found.redis_url}\nDIANZAN_DATABASE_URL={found.database_url}")


def main() -> None:
    """Entry point of the `dianzan` command; what it prints is out when it ends with 0."""
    try:
        try:
            for stream in (sys.stdout, sys.stderr):
                # A terminal that cannot show Chinese gets escapes, and no traceback.
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")
            read_files()
            faults.arm(os.environ.get("DIANZAN_FAULTS", ""))
            app()
        finally:
            sys.stdout.flush()
    except DianzanError as error:  # before any command
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        sys.exit(WRONG)
    except OSError as error:
        if error.errno not in OF_OUTPUT:
            raise
        _discard_output()
        if error.errno != errno.EPIPE:
            typer.secho(f"The output cannot be written whole: {error.strerror}.", err=True, fg=typer.colors.RED)
        sys.exit(1)


def _discard_output() -> None:
    # What is still in the buffer is written at exit, and would fail there once more with a message of Python's own.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
