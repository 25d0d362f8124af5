"""The options of a load run."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from loadtests.load.plan import Shape

QUOTA = 10
JOURNAL = Path(__file__).parents[1] / "results" / "journal.jsonl"

Positive = Annotated[float, Field(gt=0, lt=1e6)]


class Options(BaseSettings):
    """Load with a verdict; exit code 1 if it differs."""

    model_config = SettingsConfigDict(
        env_prefix="LOADTEST_",
        cli_prog_name="python -m loadtests.load",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    seconds: Positive = Field(60, description="length of the load")
    # 20 like requests a second want 2,000 reads a second, about what two cores give to system and generator together.
    likes_per_second: Positive = Field(20, description="like requests a second, on average")
    reads_per_like: float = Field(100, ge=0, lt=1e6, description="reads wanted for each like request")
    voters: int = Field(0, ge=0, description="voter tokens to mint; 0: as many as like requests")
    users: int = Field(32, description="concurrent users: a quarter votes, the rest reads")
    streams: int = Field(3, description="readers of the event stream, beside the users")
    shape: Shape = Field("both", description="a day, a minute on air, or one after other")
    seed: int = Field(default_factory=lambda: secrets.randbelow(2**32), description="repeats the plan of a run")
    vote_url: str | None = Field(None, description="load this vote API instead of a system of its own")
    results_url: str | None = Field(None, description="its results API")
    campaign: str | None = Field(None, description="its campaign; nobody else may vote in it meanwhile")
    data: Path | None = Field(None, description="its data folder; otherwise DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL")
    journal: Path = Field(JOURNAL, description="file that every answer is written to")
    verdict_only: bool = Field(False, description="no load: judge the journal of the last run again")
    kill_worker: bool = Field(False, description="run a second tally worker, killed with -9 again and again")
    drain_seconds: Positive = Field(60, description="longest wait for the ledger to catch up")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        addresses = (self.vote_url, self.results_url, self.campaign)
        if any(addresses) and not all(addresses):
            raise ValueError("give --vote-url, --results-url and --campaign together, or none of them")
        self.voters = self.voters or max(1, round(self.seconds * self.likes_per_second))
        return self


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line. Raises ValueError, or exits with 2, if it does not fit together."""
    return Options(_cli_parse_args=True if arguments is None else list(arguments))  # type: ignore[call-arg]
