"""What the vote API knows of the store: campaigns by version, and a promise that is checked, refused and waived."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dianzan import keys, vote_store
from dianzan.campaign import Document
from dianzan.errors import CampaignUnknown, StoreUnsafe, Unavailable
from dianzan.like_link import LikeLink
from dianzan.vote_store import VoteStore, connect
from tests.support.casting import call_of, document, voter
from tests.support.servers import running_store
from tests.support.store_state import configured
from vote_api import watch as watch_module
from vote_api.watch import StoreWatch


@pytest.fixture
async def campaign(store: VoteStore) -> Document:
    made = document(shards=1)
    await store.open_gates(made, first=True)
    return made


@pytest.fixture
def watch(store: VoteStore) -> StoreWatch:
    return StoreWatch(store, allow_weak_store=False)


@pytest.fixture
def waiving(store: VoteStore) -> StoreWatch:
    return StoreWatch(store, allow_weak_store=True)


@pytest.fixture
def checked_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "PROMISE_EVERY_S", 0.0)


async def test_nothing_is_known_before_the_first_read(watch: StoreWatch) -> None:
    assert not watch.ready
    with pytest.raises(Unavailable) as refused:
        watch.document("any")
    assert not isinstance(refused.value, StoreUnsafe)
    with pytest.raises(StoreUnsafe):
        watch.require_promise()


async def test_a_store_that_keeps_the_promise_is_ready_without_a_waiver(watch: StoreWatch) -> None:
    await watch.refresh()

    assert watch.ready
    assert not watch.waived
    assert watch.broken == []
    watch.require_promise()


async def test_campaigns_are_known_changed_and_forgotten_by_their_version(
    client: Redis, store: VoteStore, watch: StoreWatch
) -> None:
    first = document()
    campaign = first.rules.id
    await store.publish_document(first)
    await watch.refresh()
    assert watch.document(campaign) == first

    later = first.model_copy(update={"version": 3, "candidates": ("c1",)})
    await store.publish_document(later)
    await watch.refresh()
    assert watch.document(campaign) == later

    await client.hdel(keys.CAMPAIGNS, campaign)
    await watch.refresh()
    with pytest.raises(CampaignUnknown, match=campaign):
        watch.document(campaign)


async def test_a_document_is_read_again_only_when_its_version_changed(store: VoteStore, watch: StoreWatch) -> None:
    made = document()
    await store.publish_document(made)
    await watch.refresh()
    known = watch.document(made.rules.id)

    await watch.refresh()

    assert watch.document(made.rules.id) is known


@pytest.mark.usefixtures("checked_every_time")
async def test_a_setting_that_weakens_the_promise_stops_likes_until_it_is_mended(
    client: Redis, store: VoteStore, watch: StoreWatch
) -> None:
    made = document()
    await store.publish_document(made)
    await watch.refresh()

    async with configured(client, "appendfsync", "everysec"):
        await watch.refresh()
        assert not watch.ready
        assert "appendfsync" in watch.broken[0]
        with pytest.raises(StoreUnsafe):
            watch.require_promise()
        assert watch.document(made.rules.id) == made

    await watch.refresh()
    watch.require_promise()


@pytest.mark.usefixtures("checked_every_time")
async def test_a_waiver_takes_likes_on_a_weak_store_and_says_so(client: Redis, waiving: StoreWatch) -> None:
    await waiving.refresh()
    assert not waiving.waived

    async with configured(client, "appendfsync", "everysec"):
        await waiving.refresh()
        assert waiving.ready
        assert waiving.waived
        waiving.require_promise()


async def test_another_version_of_the_library_breaks_the_promise(client: Redis, watch: StoreWatch) -> None:
    await client.function_delete(vote_store.LIBRARY)

    await watch.refresh()

    assert not watch.ready
    assert "library" in watch.broken[0]


async def test_a_newer_library_serves_too(client: Redis, store: VoteStore, watch: StoreWatch) -> None:
    newer = vote_store._library_source().replace("LIBRARY_VERSION = 1", "LIBRARY_VERSION = 2")
    await client.function_load(newer, replace=True)
    try:
        await watch.refresh()
        assert watch.ready
    finally:
        await client.function_delete(vote_store.LIBRARY)
        await store.load_library()


async def test_a_crowd_that_asks_at_once_shares_one_read(
    store: VoteStore, watch: StoreWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watch.refresh()
    reads, usual = 0, store.versions

    async def counted() -> dict[str, int]:
        nonlocal reads
        reads += 1
        return await usual()

    monkeypatch.setattr(store, "versions", counted)
    await asyncio.gather(*(watch.refresh() for _ in range(200)))

    assert reads <= 2, "one that runs, and one for all that asked since it began"


async def test_a_crowd_of_reads_waits_for_connections_and_does_not_make_the_store_look_away(
    store: VoteStore, watch: StoreWatch
) -> None:
    made = document()
    await asyncio.gather(*(store.liked(made, 1, n.to_bytes(16, "big")) for n in range(200)), watch.refresh())

    assert watch.ready


@pytest.mark.usefixtures("checked_every_time")
async def test_a_document_that_cannot_be_read_keeps_the_last_one_and_all_other_campaigns(
    client: Redis, store: VoteStore, watch: StoreWatch
) -> None:
    first, other = document(), document()
    await store.publish_document(first)
    await watch.refresh()
    await client.set(keys.document(first.rules.id), "{}")
    await client.hset(keys.CAMPAIGNS, first.rules.id, "99")
    await store.publish_document(other)

    await watch.refresh()

    assert watch.document(first.rules.id) == first
    assert watch.document(other.rules.id) == other


async def test_a_new_connection_for_likes_finds_a_weak_store_at_once(
    client: Redis, store: VoteStore, watch: StoreWatch, campaign: Document
) -> None:
    await watch.refresh()
    link = LikeLink(client, on_open=watch.recheck)
    async with configured(client, "appendfsync", "everysec"):
        with pytest.raises(StoreUnsafe):
            await link.send([call_of(campaign, [(voter("A"), [1])])])
    await link.send([call_of(campaign, [(voter("A"), [1])])])
    await link.close()

    assert await store.counts(campaign.rules.id, 1) == {1: 1}


async def test_the_promise_is_not_checked_every_second(client: Redis, watch: StoreWatch) -> None:
    await watch.refresh()

    async with configured(client, "appendfsync", "everysec"):
        await watch.refresh()

    assert watch.broken == []


async def test_a_store_that_comes_back_weaker_is_found_out_at_once(tmp_path: Path) -> None:
    folder, made = tmp_path / "data", document()
    with running_store("valkey-wheel", folder) as url:
        client = connect(url)
        store = VoteStore(client)
        await store.load_library()
        await store.publish_document(made)
        watch = StoreWatch(store, allow_weak_store=False)
        await watch.refresh()
        assert watch.ready

    await watch.refresh()
    assert not watch.ready
    assert "does not answer" in watch.broken[0]
    assert watch.document(made.rules.id) == made

    with running_store("valkey-wheel", folder):
        await client.config_set("appendfsync", "everysec")
        await watch.refresh()
        assert not watch.ready
        assert "appendfsync" in watch.broken[0]

        await client.config_set("appendfsync", "always")
        await watch.refresh()
        assert watch.ready
        assert watch.document(made.rules.id) == made
        await client.aclose()
