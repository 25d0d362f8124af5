"""The scripts of page and button: the types they are checked with."""

from __future__ import annotations

from tests.web import documents


async def test_types_of_the_documents_are_those_of_the_openapi_documents() -> None:
    assert documents.FILE.read_text(encoding="utf-8") == await documents.types(), "run `make format`"
