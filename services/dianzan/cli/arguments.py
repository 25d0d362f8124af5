"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

from dianzan.domain.codes import folded

Id = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id, in any case.", callback=folded)]
