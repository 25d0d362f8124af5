"""However a like arrives, in pieces, in chunks or behind other requests, it is answered, and in its turn."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dianzan.domain.limits import BODY_BYTES_MAX
from tests.support.client import CampaignClient, VoterClient
from tests.support.wire import Wire, wired

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
UNREAD_MAX = 200_000  # requests; their answers are far more than any socket's buffer holds


@asynccontextmanager
async def connected(campaign: CampaignClient) -> AsyncIterator[Wire]:
    """A connection to the vote API."""
    async with wired(campaign.system.vote_port) as wire:
        yield wire


def like(voter: VoterClient, *codes: str, head: str = "", method: str = "POST", version: str = "1.1") -> bytes:
    """A like request as bytes."""
    body = json.dumps({"candidates": codes}).encode()
    path = "/" + voter.likes_url.split("/", 3)[3]
    lines = [
        f"{method} {path} HTTP/{version}",
        "host: x",
        f"authorization: Bearer {voter.token}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n" + head.encode() + b"\r\n" + body


async def test_likes_sent_at_once_on_one_connection_are_answered_in_their_order(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01") + like(voter, "c01", "c02") + like(voter, "zz"))

        found = [(await wire.answer()).statuses for _ in range(3)]

    assert found == [["counted"], ["already_liked", "counted"], ["unknown_candidate"]]


async def test_other_requests_wait_for_the_like_before_them_and_likes_for_them(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01") + HEALTH + like(voter, "c02") + like(voter, "c02") + HEALTH)

        answers = [await wire.answer() for _ in range(5)]

    assert [answer.status for answer in answers] == [200] * 5
    assert [answers[number].statuses for number in (0, 2, 3)] == [["counted"], ["counted"], ["already_liked"]]
    assert [json.loads(answers[number].body) for number in (1, 4)] == [{"status": "ok"}] * 2


async def test_a_like_that_arrives_byte_by_byte_is_counted(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    async with connected(open_campaign) as wire:
        await wire.send(*(bytes([byte]) for byte in like(voter, "c01")))

        assert (await wire.answer()).statuses == ["counted"]


async def test_a_like_in_chunks_is_counted(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    head, _, body = like(voter, "c01", head="transfer-encoding: chunked\r\n").partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
    async with connected(open_campaign) as wire:
        await wire.send(
            b"\r\n".join(lines) + b"\r\n\r\n",
            b"5\r\n" + body[:5] + b"\r\n",
            b"%x\r\n" % len(body[5:]) + body[5:] + b"\r\n0\r\n\r\n",
        )

        assert (await wire.answer()).statuses == ["counted"]


async def test_a_client_that_asks_first_is_told_to_go_on(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    head, _, body = like(voter, "c01", head="expect: 100-continue\r\n").partition(b"\r\n\r\n")
    async with connected(open_campaign) as wire:
        await wire.send(head + b"\r\n\r\n")
        assert (await wire.answer()).status == 100
        await wire.send(body)

        assert (await wire.answer()).statuses == ["counted"]


@pytest.mark.parametrize(
    "asked", [{"head": "connection: close\r\n"}, {"version": "1.0"}], ids=["it says so", "it is of HTTP/1.0"]
)
async def test_a_connection_that_is_to_end_is_closed_after_the_answer(
    open_campaign: CampaignClient, asked: dict[str, Any]
) -> None:
    voter = await open_campaign.voter()
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01", **asked))
        answer = await wire.answer()

        assert (answer.statuses, answer.headers["connection"]) == (["counted"], "close")
        assert await wire.ended()


async def test_a_body_over_the_limit_is_refused_before_its_end_and_the_connection_goes_on(
    open_campaign: CampaignClient,
) -> None:
    voter = await open_campaign.voter()
    whole = like(voter, *["x" * 30] * (4 * BODY_BYTES_MAX // 30))
    async with connected(open_campaign) as wire:
        await wire.send(whole[: 2 * BODY_BYTES_MAX])
        assert (await wire.answer()).status == 413
        await wire.send(whole[2 * BODY_BYTES_MAX :], like(voter, "c01"))

        assert (await wire.answer()).statuses == ["counted"]


async def test_a_like_asked_for_by_head_is_refused_without_a_body(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01", method="HEAD"))
        answer = await wire.answer(body=False)
        await wire.send(HEALTH)

        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert (await wire.answer()).status == 200


async def test_a_campaign_may_be_named_with_escapes_and_a_query_is_left_alone(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    path = "/" + voter.likes_url.split("/", 3)[3]
    escaped = path.replace("/likes", "/%6Cikes?from=poster")
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01").replace(path.encode(), escaped.encode()))

        assert (await wire.answer()).statuses == ["counted"]


async def test_a_campaign_may_be_named_by_its_whole_address(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    path = "/" + voter.likes_url.split("/", 3)[3]
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01").replace(path.encode(), voter.likes_url.encode()))

        assert (await wire.answer()).statuses == ["counted"]


async def test_what_follows_a_body_in_chunks_is_no_header(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    head, _, body = like(voter, "c01", head="transfer-encoding: chunked\r\n").partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    token = next(line for line in lines if line.startswith(b"authorization"))
    sent = [line for line in lines if not line.startswith((b"content-length", b"authorization"))]
    async with connected(open_campaign) as wire:
        chunk = b"%x\r\n" % len(body) + body + b"\r\n0\r\n"
        await wire.send(b"\r\n".join(sent) + b"\r\n\r\n" + chunk + token + b"\r\n\r\n")

        assert json.loads((await wire.answer()).body)["code"] == "token_missing"


async def test_bytes_that_are_no_request_are_refused_after_the_like_before_them_is_answered(
    open_campaign: CampaignClient,
) -> None:
    voter = await open_campaign.voter()
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01") + like(voter, "c02") + b"\0 no request\r\n\r\n")
        answer = await wire.answer()

        assert (answer.statuses, answer.headers["connection"]) == (["counted"], "close")
        assert await wire.ended()


async def test_a_like_that_asks_for_another_protocol_has_one_answer(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01", head="connection: upgrade\r\nupgrade: h2c\r\n"))
        answer = await wire.answer()

        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await wire.ended()


async def test_a_client_that_hangs_up_leaves_the_like_counted_and_the_others_served(
    open_campaign: CampaignClient,
) -> None:
    voter, other = await open_campaign.voter(), await open_campaign.voter()
    async with connected(open_campaign) as wire:
        await wire.send(like(voter, "c01"))

    assert await other.statuses("c01") == ["counted"]
    # Its bytes were sent before the other's, over another connection: it may only be just being counted.
    assert await voter.statuses("c01") in (["already_liked"], ["counted"])
    assert len((await voter.mine())["likes"]) == 1


async def test_a_client_that_asks_on_and_reads_nothing_is_cut_off(open_campaign: CampaignClient) -> None:
    voter = await open_campaign.voter()
    asked = like(voter, "c01", method="PUT") * 100

    def ask_on() -> None:
        with socket.create_connection(("127.0.0.1", open_campaign.system.vote_port), timeout=20) as unread:
            for _ in range(UNREAD_MAX // 100):
                unread.sendall(asked)

    with pytest.raises(ConnectionError):
        await asyncio.to_thread(ask_on)
    assert await voter.statuses("c01") == ["counted"]
