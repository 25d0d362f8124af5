"""The store's user that deploy/README.md describes can do all that the services and commands do, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.support.servers import STORES, running_ledger, running_store
from tests.support.system import System

README = Path(__file__).parents[2] / "deploy" / "README.md"
RULES = re.compile(r"^ACL SETUSER services on >PASSWORD ([^`]+)$", re.MULTILINE)
FORBIDDEN = (
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "SET", "appendfsync", "no"),
    ("ACL", "LIST"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "NO", "ONE"),
    ("KEYS", "*"),
    ("MONITOR",),
    ("EVAL", "return 1", "0"),
    ("SET", "somebody:elses", "1"),
)


def rules() -> list[str]:
    match = RULES.search(README.read_text(encoding="utf-8"))
    assert match
    return match[1].split()


@pytest.fixture(params=STORES)
def user_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A server's address with the documented user."""
    with running_store(request.param, tmp_path / "store") as url, Redis.from_url(url) as admin:
        admin.execute_command("ACL SETUSER", "services", "on", ">PASSWORD", *rules())
        yield re.sub(r"//:[^@]+@", "//services:PASSWORD@", url)


def test_the_services_and_commands_do_their_whole_work(user_url: str, tmp_path: Path) -> None:
    with running_ledger("postgres-wheel", tmp_path / "ledger") as database_url:
        system = System(tmp_path / "data", {"DIANZAN_REDIS_URL": user_url, "DIANZAN_DATABASE_URL": database_url})
        system.start()
        try:
            campaign = f"{system.vote_url}/v1/campaigns/demo"
            token = httpx.post(f"{campaign}/voters").json()["token"]
            bearer = {"authorization": f"Bearer {token}"}
            liked = httpx.post(f"{campaign}/likes", json={"candidates": ["c01"]}, headers=bearer)
            assert liked.json()["results"][0]["status"] == "counted"
            assert len(httpx.get(f"{campaign}/likes/mine", headers=bearer).json()["likes"]) == 1
            assert httpx.get(f"{system.vote_url}/readyz").json() == {"ready": True, "promise": "kept", "reasons": []}
            assert "nothing" in system.cli("restore", "demo").stdout
            assert "Sealed" in system.cli("seal", "demo", "--yes", "--early", "seen enough").stdout
            assert "equal" in system.cli("recount", "demo").stdout
        finally:
            system.stop()
        assert "NoPermission" not in system.logs()
        assert "permissions" not in system.logs()


def test_the_user_can_do_nothing_else(user_url: str) -> None:
    with Redis.from_url(user_url) as user:
        for command in FORBIDDEN:
            with pytest.raises(NoPermissionError):
                user.execute_command(*command)
