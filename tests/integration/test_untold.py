"""What a store server may not tell: refused with a reason, attested by its operator, and no cover for the rest."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from redis.asyncio import Redis

from dianzan.domain.errors import StoreUnsafe
from dianzan.domain.limits import BACKLOG_BYTES_MAX
from dianzan.store.nodes import Node, StoreNodes, connect
from dianzan.store.store import Store
from tests.support.casting import document
from tests.support.nodes import one_server
from tests.support.store_state import configured
from vote_api.store.watch import StoreWatch


@pytest.fixture
def nodes(client: Redis) -> StoreNodes:
    return one_server(client)


@pytest.fixture
def node(nodes: StoreNodes) -> Node:
    return nodes.all()[0]


TELLS_LITTLE = ["+@all", "-config", "-info", "-memory"]


@asynccontextmanager
async def one_who_may(client: Redis, *rules: str, replicated: bool = False) -> AsyncIterator[StoreNodes]:
    """The server, seen by a user with these rights."""
    await client.execute_command("ACL SETUSER", "hosted", "on", ">secret", "~*", "&*", *rules)  # type: ignore[no-untyped-call]
    where = client.connection_pool.connection_kwargs
    nodes = connect(f"redis://hosted:secret@{where['host']}:{where['port']}/0", replicated=replicated)
    try:
        yield nodes
    finally:
        await nodes.aclose()
        await client.acl_deluser("hosted")


@pytest.mark.parametrize("rules", [TELLS_LITTLE, ["+@all", "-config"], ["+@all", "-info"]])
async def test_a_server_that_may_not_tell_its_settings_is_unsafe_and_says_what_to_allow(
    client: Redis, rules: list[str]
) -> None:
    async with one_who_may(client, *rules) as nodes:
        watch = StoreWatch(nodes, allow_weak_store=False, backlog_bytes_max=BACKLOG_BYTES_MAX)
        await watch.refresh()

        with pytest.raises(StoreUnsafe):
            watch.require(nodes.all()[0])
        assert not watch.ready
        assert "allow it to this user, or attest" in watch.reasons[0]
        assert "does not answer" not in watch.reasons[0]


async def test_what_cannot_be_read_can_be_attested_and_is_shown_as_attested(client: Redis) -> None:
    async with one_who_may(client, *TELLS_LITTLE) as nodes:
        watch = StoreWatch(nodes, allow_weak_store=False, attest_store=True, backlog_bytes_max=BACKLOG_BYTES_MAX)
        await watch.refresh()

        watch.require(nodes.all()[0])
        assert watch.ready
        assert "attested by DIANZAN_ATTEST_STORE" in watch.attested[0]
        assert all(f"{command} was refused" in watch.attested[0] for command in ("CONFIG GET", "INFO"))
        assert "\ndianzan_store_attested 1.0\n" in generate_latest().decode()


@pytest.mark.parametrize(
    ("forbidden", "told"), [("-config", "0 replicas are connected"), ("-info", "appendfsync is 'no'")]
)
async def test_what_a_server_tells_is_judged_though_it_does_not_tell_all(
    client: Redis, forbidden: str, told: str
) -> None:
    async with (
        one_who_may(client, "+@all", forbidden, replicated=True) as nodes,
        configured(client, "appendfsync", "no"),
    ):
        watch = StoreWatch(nodes, allow_weak_store=False, attest_store=True, backlog_bytes_max=BACKLOG_BYTES_MAX)
        await watch.refresh()

        with pytest.raises(StoreUnsafe):
            watch.require(nodes.all()[0])
        assert told in watch.reasons[0]
        assert watch.attested


@pytest.mark.parametrize("attested", [True, False])
async def test_a_server_that_hides_a_stream_s_size_still_has_its_memory_and_disk_watched(
    client: Redis, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attested: bool
) -> None:
    await store.documents.publish(document(shards=1))
    usage = shutil.disk_usage(tmp_path)._replace(used=99, free=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    async with (
        one_who_may(client, "+@all", "-memory|usage") as nodes,
        configured(client, "appendfsync", "everysec"),
    ):
        watch = StoreWatch(
            nodes,
            allow_weak_store=False,
            attest_store=attested,
            backlog_bytes_max=BACKLOG_BYTES_MAX,
            store_folder=tmp_path,
        )
        await watch.refresh()
        await watch.refresh()

        said = " ".join(watch.reasons)
        assert "99% of the store's disk is used" in said
        assert "appendfsync is 'everysec'" in said
        assert ("MEMORY USAGE was refused" in said) is not attested
        assert f'dianzan_backlog_bytes{{server="{nodes.all()[0].address}"}}' not in generate_latest().decode()
        assert bool(watch.attested) is attested


async def test_a_command_that_is_refused_is_named_and_no_network_is_blamed(client: Redis) -> None:
    async with one_who_may(client, "+@all", "-time") as nodes:
        watch = StoreWatch(nodes, allow_weak_store=False, backlog_bytes_max=BACKLOG_BYTES_MAX)
        await watch.refresh()

        assert "the store answers with a refusal: TIME was refused by the store" in watch.reasons[0]


async def test_what_can_be_read_is_not_attested_away(client: Redis, nodes: StoreNodes, node: Node) -> None:
    async with configured(client, "appendfsync", "no"):
        watch = StoreWatch(nodes, allow_weak_store=False, attest_store=True, backlog_bytes_max=BACKLOG_BYTES_MAX)
        await watch.refresh()

        with pytest.raises(StoreUnsafe):
            watch.require(node)
