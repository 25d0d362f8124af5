"""Readers of a stream: each is sent every change of its campaign, a slow one the latest, and none holds the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from dianzan.domain.errors import CampaignUnknown, Unavailable
from dianzan.http.asgi import Message
from results_api import streams as streams_module
from results_api.rendered import Rendered
from results_api.streams import Streams
from tests.support.wait import until

pytestmark = pytest.mark.usefixtures("quick")


class Reader:
    """A connection as uvicorn shows it to an app; `full` stands for a network that takes no more."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.room, self.gone = asyncio.Event(), asyncio.Event()
        self.room.set()

    @property
    def numbers(self) -> list[bytes]:
        """The data of the events sent so far."""
        lines = b"".join(message.get("body", b"") for message in self.sent).split(b"\n")
        return [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]

    @property
    def ended(self) -> bool:
        last = self.sent[-1]
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    async def send(self, message: Message) -> None:
        await self.room.wait()
        self.sent.append(message)
        if self.ended:
            self.gone.set()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def has(self, *numbers: bytes) -> None:
        """Wait until exactly these events are sent."""

        async def sent() -> bool:
            return self.numbers == list(numbers)

        await until(sent, within_s=2, what=f"events {numbers}")


PROXY = "127.0.0.1"


class Results:
    """The events of two campaigns, and the streams that send them."""

    def __init__(self, readers_max: int = 1_000) -> None:
        self.events = {"a": Rendered.of(b"a0"), "b": Rendered.of(b"b0")}
        self.streams = Streams(self._event_of, readers_max=readers_max, proxies={PROXY})

    def _event_of(self, campaign: str) -> Rendered:
        try:
            return self.events[campaign]
        except KeyError:
            raise CampaignUnknown("No such campaign.") from None

    def change(self, campaign: str, content: bytes) -> None:
        self.events[campaign] = Rendered.of(content)
        self.streams.tell(campaign)

    @asynccontextmanager
    async def read(self, campaign: str, readers: int = 1, *, address: str = PROXY) -> AsyncIterator[list[Reader]]:
        """Readers that have the first event."""
        found = [Reader() for _ in range(readers)]
        serving = [
            asyncio.create_task(self.streams.serve(campaign, address, each.receive, each.send)) for each in found
        ]
        for each in found:
            await each.has(self.events[campaign].body)
        yield found
        for each in found:
            each.gone.set()
        await asyncio.wait_for(asyncio.gather(*serving), 5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events may follow each other at once."""
    monkeypatch.setattr(streams_module, "EVERY_S", 0.01)


@pytest.fixture
async def results() -> AsyncIterator[Results]:
    found = Results()
    async with _running(found.streams):
        yield found


@asynccontextmanager
async def _running(streams: Streams) -> AsyncIterator[None]:
    running = asyncio.create_task(streams.run())
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_a_change_is_sent_to_every_reader_of_its_campaign_and_to_no_other(results: Results) -> None:
    async with results.read("a", readers=300) as readers, results.read("b") as (other,):
        results.change("a", b"a1")

        for reader in readers:
            await reader.has(b"a0", b"a1")
        assert other.numbers == [b"b0"]


async def test_readers_share_the_bytes_of_an_event(results: Results) -> None:
    async with results.read("a", readers=2) as (one, two):
        assert one.sent[-1] is two.sent[-1]


async def test_a_slow_reader_holds_up_nobody_and_goes_on_with_the_latest_event(results: Results) -> None:
    async with results.read("a", readers=2) as (slow, reader):
        slow.room.clear()
        for number in (b"a1", b"a2", b"a3"):
            results.change("a", number)
            await reader.has(*[b"a0", b"a1", b"a2", b"a3"][: int(number[1:]) + 1])
        slow.room.set()

        await slow.has(b"a0", b"a1", b"a3")


async def test_in_quiet_times_the_event_is_sent_again(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    async with results.read("a") as (reader,):
        monkeypatch.setattr(streams_module, "REPEAT_S", 0.05)

        async def repeated() -> bool:
            return reader.numbers[:2] == [b"a0", b"a0"]

        await until(repeated, within_s=2, what="the event again")


async def test_stopping_ends_every_stream(results: Results) -> None:
    async with results.read("a", readers=2) as readers:
        results.streams.stop()

        async def ended() -> bool:
            return all(reader.ended for reader in readers)

        await until(ended, within_s=2, what="the streams end")


@pytest.mark.usefixtures("quick")
async def test_a_campaign_that_is_gone_ends_its_streams(results: Results) -> None:
    async with results.read("a") as (reader,), results.read("b") as (other,):
        del results.events["a"]
        results.streams.tell("a")

        async def ended() -> bool:
            return reader.ended

        await until(ended, within_s=2, what="the stream ends")
        assert not other.ended


async def test_above_the_limit_a_reader_is_told_when_to_come_back_until_another_has_gone() -> None:
    results = Results(readers_max=2)
    late = Reader()
    async with results.read("a", readers=2):
        with pytest.raises(Unavailable) as refused:
            await results.streams.serve("a", PROXY, late.receive, late.send)
    assert refused.value.retry_after_s == 30
    assert late.sent == []

    async with results.read("a", readers=2):
        pass


async def test_a_campaign_that_does_not_exist_has_no_stream(results: Results) -> None:
    reader = Reader()
    with pytest.raises(CampaignUnknown):
        await results.streams.serve("nothing", PROXY, reader.receive, reader.send)


async def test_one_address_has_its_share_and_leaves_the_rest_to_others() -> None:
    results = Results(readers_max=40)
    reader = Reader()
    async with _running(results.streams), results.read("a", 2, address="203.0.113.9"):
        with pytest.raises(Unavailable) as refused:
            await results.streams.serve("a", "203.0.113.9", reader.receive, reader.send)
        assert refused.value.retry_after_s == 30

        async with results.read("a", 2, address="203.0.113.10"), results.read("a", 30):
            pass

    async with _running(results.streams), results.read("a", 2, address="2001:db8:1:2::7"):
        with pytest.raises(Unavailable):  # another address of the same line
            await results.streams.serve("a", "2001:db8:1:2:ffff::8", reader.receive, reader.send)
        async with results.read("a", 2, address="2001:db8:1:3::7"):
            pass

    async with _running(results.streams), results.read("a", 2, address="203.0.113.9"):
        pass  # those that went away have given their places back
