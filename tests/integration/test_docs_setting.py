"""The pages about an API are there by default, and away by one setting."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.service import running
from tests.support.system import System


@pytest.mark.parametrize("module", ["vote_api", "results_api"])
async def test_the_pages_about_the_api_are_away_by_one_setting(
    system: System, http: httpx.AsyncClient, tmp_path: Path, module: str
) -> None:
    for docs, status in (("true", 200), ("false", 404)):
        async with running(module, system.stores, tmp_path, DIANZAN_DOCS=docs, DIANZAN_DRAIN_S="0") as service:
            for path in ("/docs", "/redoc", "/openapi.json"):
                assert (await http.get(f"{service.url}{path}")).status_code == status
