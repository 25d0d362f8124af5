"""What the vote API knows of the store: campaigns by version, and a promise that is checked, refused and waived."""

from __future__ import annotations

import asyncio
import json
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from dianzan.domain.campaign import Document
from dianzan.domain.errors import CampaignUnknown, ClockSkewed, NoRoom, StoreUnavailable, StoreUnsafe, Unavailable
from dianzan.domain.limits import BACKLOG_BYTES_MAX
from dianzan.domain.shard import Shard
from dianzan.domain.windows import now_ms
from dianzan.store import keys, library
from dianzan.store.like_link import LikeLink
from dianzan.store.nodes import Node, StoreNodes, connect
from dianzan.store.store import Store
from tests.support.casting import call_of, document, voter
from tests.support.nodes import one_server
from tests.support.servers import running_store
from tests.support.store_state import configured
from vote_api.store import health
from vote_api.store.watch import StoreWatch


@pytest.fixture
async def campaign(store: Store) -> Document:
    made = document(shards=1)
    await store.gates.open(made, made.rules.every_shard, first=True)
    return made


@pytest.fixture
def nodes(client: Redis) -> StoreNodes:
    return one_server(client)


@pytest.fixture
def node(nodes: StoreNodes) -> Node:
    return nodes.all()[0]


@pytest.fixture
def watch(nodes: StoreNodes) -> StoreWatch:
    return StoreWatch(nodes, allow_weak_store=False, backlog_bytes_max=BACKLOG_BYTES_MAX)


@pytest.fixture
def waiving(nodes: StoreNodes) -> StoreWatch:
    return StoreWatch(nodes, allow_weak_store=True, backlog_bytes_max=BACKLOG_BYTES_MAX)


@pytest.fixture
def checked_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "DURABILITY_EVERY_S", 0.0)


async def test_nothing_is_known_before_the_first_read(watch: StoreWatch, node: Node) -> None:
    assert not watch.ready
    with pytest.raises(Unavailable) as refused:
        watch.document("any")
    assert not isinstance(refused.value, StoreUnsafe)
    with pytest.raises(StoreUnavailable):
        watch.require(node)


async def test_a_store_that_keeps_the_promise_is_ready_without_a_waiver(watch: StoreWatch, node: Node) -> None:
    await watch.refresh()

    assert watch.ready
    assert not watch.waived
    assert watch.reasons == []
    watch.require(node)


async def test_campaigns_are_known_and_changed_by_their_version_and_never_forgotten(
    client: Redis, store: Store, watch: StoreWatch
) -> None:
    first = document()
    campaign = first.rules.id
    await store.documents.publish(first)
    await watch.refresh()
    assert watch.document(campaign) == first

    later = first.model_copy(update={"version": 3, "candidates": ("c1",)})
    await store.documents.publish(later)
    await watch.refresh()
    assert watch.document(campaign) == later

    await client.flushdb()
    await watch.refresh()
    assert watch.document(campaign) == later, "the store has lost it; its shards refuse"
    with pytest.raises(CampaignUnknown, match="another"):
        watch.document("another")


async def test_a_document_is_read_again_only_when_its_version_changed(store: Store, watch: StoreWatch) -> None:
    made = document()
    await store.documents.publish(made)
    await watch.refresh()
    known = watch.document(made.rules.id)

    await watch.refresh()

    assert watch.document(made.rules.id) is known


@pytest.mark.usefixtures("checked_every_time")
async def test_a_setting_that_weakens_the_promise_stops_likes_until_it_is_mended(
    client: Redis, store: Store, watch: StoreWatch, node: Node
) -> None:
    made = document()
    await store.documents.publish(made)
    await watch.refresh()

    async with configured(client, "appendfsync", "everysec"):
        await watch.refresh()
        assert not watch.ready
        assert "appendfsync" in watch.reasons[0]
        with pytest.raises(StoreUnsafe):
            watch.require(node)
        assert watch.document(made.rules.id) == made

    await watch.refresh()
    watch.require(node)


@pytest.mark.usefixtures("checked_every_time")
async def test_a_waiver_takes_likes_on_a_weak_store_and_says_so(client: Redis, waiving: StoreWatch, node: Node) -> None:
    await waiving.refresh()
    assert not waiving.waived

    async with configured(client, "appendfsync", "everysec"):
        await waiving.refresh()
        assert waiving.ready
        assert waiving.waived
        waiving.require(node)


async def test_another_version_of_the_library_breaks_the_promise(client: Redis, watch: StoreWatch) -> None:
    await client.function_delete(library.NAME)

    await watch.refresh()

    assert not watch.ready
    assert "library" in watch.reasons[0]


async def test_a_newer_library_serves_too(client: Redis, store: Store, watch: StoreWatch) -> None:
    version = library.VERSION
    newer = library.source().replace(f"LIBRARY_VERSION = {version}", f"LIBRARY_VERSION = {version + 1}")
    await client.function_load(newer, replace=True)
    try:
        await watch.refresh()
        assert watch.ready
    finally:
        await client.function_delete(library.NAME)
        await store.load_library()


async def test_a_crowd_that_asks_at_once_shares_one_read(
    store: Store, watch: StoreWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watch.refresh()
    reads, usual = 0, store.documents.versions

    async def counted() -> dict[str, int]:
        nonlocal reads
        reads += 1
        return await usual()

    monkeypatch.setattr(store.documents, "versions", counted)
    await asyncio.gather(*(watch.refresh() for _ in range(200)))

    assert reads <= 2, "one that runs, and one for all that asked since it began"


async def test_a_crowd_of_reads_waits_for_connections_and_does_not_make_the_store_look_away(
    store: Store, watch: StoreWatch
) -> None:
    made = document()
    await asyncio.gather(*(store.marks.liked(made, 1, n.to_bytes(16, "big")) for n in range(200)), watch.refresh())

    assert watch.ready


@pytest.mark.usefixtures("checked_every_time")
async def test_a_document_that_cannot_be_read_keeps_the_last_one_and_all_other_campaigns(
    client: Redis, store: Store, watch: StoreWatch
) -> None:
    first, other = document(), document()
    await store.documents.publish(first)
    await watch.refresh()
    unknown = first.model_dump(mode="json") | {"width": 7}
    await client.set(keys.document(first.rules.id), json.dumps(unknown))
    await client.hset(keys.CAMPAIGNS, first.rules.id, "99")
    await store.documents.publish(other)

    await watch.refresh()

    assert watch.document(first.rules.id) == first
    assert watch.document(other.rules.id) == other


@pytest.mark.usefixtures("checked_every_time")
async def test_a_document_that_cannot_be_read_is_told_once_and_without_its_key(
    client: Redis, store: Store, watch: StoreWatch
) -> None:
    made = document()
    await store.documents.publish(made)
    await client.set(keys.document(made.rules.id), json.dumps({"candidates": [], "secret": made.secret}))

    with capture_logs() as lines:
        await watch.refresh()
        await watch.refresh()

    told = [line for line in lines if "campaign" in line]
    assert [(line["campaign"], line["version"]) for line in told] == [(made.rules.id, made.version)]
    assert "(version: Field required; " in told[0]["reason"]
    assert made.secret not in repr(lines)


async def test_a_new_connection_for_likes_finds_a_weak_store_at_once(
    client: Redis, store: Store, watch: StoreWatch, node: Node, campaign: Document
) -> None:
    await watch.refresh()
    link = LikeLink(client, on_open=partial(watch.recheck, node))
    async with configured(client, "appendfsync", "everysec"):
        with pytest.raises(StoreUnsafe):
            await link.send([call_of(campaign, [(voter("A"), [1])])])
    await link.send([call_of(campaign, [(voter("A"), [1])])])
    await link.close()

    assert await store.tallies.total(campaign.rules.every_shard) == {1: 1}


async def test_the_promise_is_not_checked_every_second(client: Redis, watch: StoreWatch) -> None:
    await watch.refresh()

    async with configured(client, "appendfsync", "everysec"):
        await watch.refresh()

    assert watch.reasons == []


async def test_a_store_that_comes_back_weaker_is_found_out_at_once(tmp_path: Path) -> None:
    folder, made = tmp_path / "data", document()
    with running_store("valkey-wheel", folder) as url:
        nodes = connect(url)
        client, store = nodes.all()[0].client, Store(nodes)
        await store.load_library()
        await store.documents.publish(made)
        watch = StoreWatch(nodes, allow_weak_store=False, backlog_bytes_max=BACKLOG_BYTES_MAX)
        await watch.refresh()
        assert watch.ready

    await watch.refresh()
    assert not watch.ready
    assert "does not answer" in watch.reasons[0]
    assert watch.document(made.rules.id) == made

    with running_store("valkey-wheel", folder):
        await client.config_set("appendfsync", "everysec")
        await watch.refresh()
        assert not watch.ready
        assert "appendfsync" in watch.reasons[0]

        await client.config_set("appendfsync", "always")
        await watch.refresh()
        assert watch.ready
        assert watch.document(made.rules.id) == made
        await nodes.aclose()


# ---- room -----------------------------------------------------------------------------------------------------------


async def test_likes_are_refused_from_85_percent_of_the_stores_memory_on(
    client: Redis, watch: StoreWatch, node: Node
) -> None:
    used = int((await client.info("memory"))["used_memory"])
    async with configured(client, "maxmemory", str(int(used / 0.9))):
        await watch.refresh()
        with pytest.raises(NoRoom):
            watch.require(node)
        assert "memory" in watch.reasons[0]
        assert not watch.ready
    async with configured(client, "maxmemory", str(int(used / 0.7))):
        await watch.refresh()
        watch.require(node)
        assert watch.ready


async def test_a_store_that_fills_is_told_once_and_by_its_address(client: Redis, watch: StoreWatch, node: Node) -> None:
    await watch.refresh()
    used = int((await client.info("memory"))["used_memory"])

    with capture_logs() as lines:
        for share in (0.9, 0.95, 0.99):
            async with configured(client, "maxmemory", str(int(used / share))):
                await watch.refresh()

    assert [line["log_level"] for line in lines] == ["warning"]
    assert lines[0]["reasons"][0].startswith(f"{node.address}: 9")


async def test_likes_are_refused_while_too_many_bytes_wait_for_the_ledger(
    client: Redis, store: Store, link: LikeLink, nodes: StoreNodes, node: Node
) -> None:
    made = document(shards=2)
    await store.gates.open(made, made.rules.every_shard, first=True)
    await store.documents.publish(made)
    watch = StoreWatch(nodes, allow_weak_store=False, backlog_bytes_max=3_000)
    await watch.refresh()
    watch.require(node)
    await link.send([call_of(made, [(voter(n), [1])]) for n in range(100)])

    await watch.refresh()

    with pytest.raises(NoRoom):
        watch.require(node)
    assert "wait for the ledger" in watch.reasons[0]
    await client.delete(*(keys.stream(Shard(made.rules.id, shard)) for shard in range(2)))
    await watch.refresh()
    watch.require(node)


async def test_likes_are_refused_from_85_percent_of_the_stores_disk_on(
    nodes: StoreNodes, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = StoreWatch(nodes, allow_weak_store=False, backlog_bytes_max=BACKLOG_BYTES_MAX, store_folder=tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: _Disk(used=86, free=14))
    await watch.refresh()
    with pytest.raises(NoRoom):
        watch.require(node)
    assert "86% of the store's disk" in watch.reasons[0]

    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: _Disk(used=84, free=16))
    await watch.refresh()
    watch.require(node)


class _Disk(NamedTuple):
    used: int
    free: int


# ---- clocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead_s", "said"), [(10, "10 s ahead of"), (-3_600, "3600 s behind")])
async def test_a_process_whose_clock_is_wrong_is_not_ready_and_says_by_how_much(
    watch: StoreWatch, node: Node, monkeypatch: pytest.MonkeyPatch, ahead_s: int, said: str
) -> None:
    monkeypatch.setattr(health, "now_ms", lambda: now_ms() + ahead_s * 1000)

    await watch.refresh()

    with pytest.raises(ClockSkewed):
        watch.require(node)
    assert not watch.ready
    assert f"this process's clock is {said} the store's" in watch.reasons[0]

    monkeypatch.setattr(health, "now_ms", lambda: now_ms() + 4_000)
    await watch.refresh()
    assert watch.ready
