"""The pages about an API are there by default, and away by one setting."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.service import running
from tests.support.system import System


@pytest.mark.parametrize("module", ["vote_api", "results_api"])
@pytest.mark.parametrize(("docs", "status"), [("true", 200), ("false", 404)])
async def test_the_pages_about_the_api_are_a_setting(
    system: System, http: httpx.AsyncClient, tmp_path: Path, module: str, docs: str, status: int
) -> None:
    async with running(module, system.stores, tmp_path, DIANZAN_DOCS=docs) as service:
        for path in ("/docs", "/redoc", "/openapi.json"):
            assert (await http.get(f"{service.url}{path}")).status_code == status
