"""What auditors are promised: after the seal nothing moves, and whoever counts again finds the same or is told."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from dianzan.domain.shard import Shard
from dianzan.store import keys
from dianzan.store.nodes import open_client
from tests.conftest import NewCampaign
from tests.spec.conftest import ReadAgain
from tests.spec.test_errors import assert_problem
from tests.support.client import CampaignClient, VoterClient
from tests.support.database import number_of, sql, until_in_ledger
from tests.support.system import END, System
from tests.support.wait import until

TAKE_OUT_A_LIKE = """
DELETE FROM likes WHERE campaign = $1 AND candidate = 2
AND voter = (SELECT voter FROM likes WHERE campaign = $1 AND candidate = 2 ORDER BY voter LIMIT 1)
"""
RAISE_A_COUNT = """
UPDATE counts SET likes = likes + 100 WHERE campaign = $1 AND candidate = 1
AND shard = (SELECT min(shard) FROM counts WHERE campaign = $1 AND candidate = 1)
"""


@dataclass(frozen=True)
class Cast:
    """A campaign that has had five likes of three people; receipts as the voters got them."""

    campaign: CampaignClient
    voters: list[VoterClient]
    receipts: set[tuple[str, str]]


async def cast_in(campaign: CampaignClient) -> Cast:
    """c01 gets three likes, c02 two."""
    voters = [await campaign.voter() for _ in range(3)]
    ballots = (["c01"], ["c01", "c02"], ["c02", "c01"])
    answers = [await voter.like(*codes) for voter, codes in zip(voters, ballots, strict=True)]
    receipts = {(each["candidate"], each["receipt"]) for answer in answers for each in answer["results"]}
    assert len(receipts) == 5
    return Cast(campaign, voters, receipts)


@pytest.fixture(scope="module")
async def sealed(lasting_campaign: NewCampaign) -> Cast:
    """Sealed by the command as soon as the likes were answered."""
    cast = await cast_in(await lasting_campaign())
    document = json.loads(cast.campaign.system.cli("seal", cast.campaign.id, *END, "--json").stdout)
    assert counts_in(document) == [5, 5, 5, 5]
    assert (document["sealed"]["likes"], document["sealed"]["people"]) == (5, 3)
    return cast


def counts_in(document: dict[str, Any]) -> list[int]:
    """The four counts of a recount."""
    likes: dict[str, int] = document["likes"]
    return [likes[name] for name in ("store", "counts", "ledger", "identities")]


def sealed_now(campaign: CampaignClient) -> list[int]:
    """The four counts by which a seal has been made, or made again."""
    return counts_in(json.loads(campaign.system.cli("seal", campaign.id, *END, "--json").stdout))


async def test_a_recount_after_the_seal_finds_four_equal_counts(sealed: Cast) -> None:
    code, document = recounted(sealed.campaign)
    said = sealed.campaign.system.cli("recount", sealed.campaign.id).stdout

    assert (code, document["equal"], document["differences"], document["waiting"]) == (0, True, [], 0)
    assert counts_in(document) == [5, 5, 5, 5]
    assert (document["sealed"]["likes"], document["sealed"]["people"]) == (5, 3)
    assert "             5  sealed tally (3 people)\nequal\n" in said


async def test_no_like_is_taken_after_the_seal(sealed: Cast) -> None:
    for voter, candidate in ((sealed.voters[0], "c05"), (sealed.voters[0], "c01")):
        assert_problem(await voter.ask(candidate), 409, "closed")


async def test_no_voter_is_made_two_seconds_after_the_seal(sealed: Cast) -> None:
    async def refused() -> bool:
        asked = await sealed.campaign.http.post(f"{sealed.campaign.vote_url}/voters", json={})
        return asked.status_code == HTTPStatus.CONFLICT

    await until(refused, within_s=2, what="no voter is made")
    asked = await sealed.campaign.http.post(f"{sealed.campaign.vote_url}/voters", json={})
    assert_problem(asked, 409, "closed")


async def test_a_voter_still_finds_its_likes_after_the_seal(sealed: Cast) -> None:
    found = {(like["candidate"], like["receipt"]) for voter in sealed.voters for like in (await voter.mine())["likes"]}

    assert found == sealed.receipts


async def test_the_sealed_tally_is_published_as_json_and_csv_with_exact_people(
    sealed: Cast, read_again: ReadAgain
) -> None:
    await read_again()
    document = (await sealed.campaign.get("/tally.json")).json()
    text = (await sealed.campaign.get("/tally.csv")).content.decode("utf-8-sig")
    summary = (await sealed.campaign.get()).json()

    assert (document["likes"], document["people"]) == (5, 3)
    assert document["digest"] == recounted(sealed.campaign)[1]["sealed"]["digest"]
    assert (document["sealed"], document["people_estimated"], summary["state"]) == (True, False, "sealed")
    rows = [(row["rank"], row["code"], row["likes"], row["people"]) for row in document["tally"]]
    assert rows == [(1, "c01", 3, 3), (2, "c02", 2, 2), (3, "c03", 0, 0), (3, "c04", 0, 0), (3, "c05", 0, 0)]
    written = csv.DictReader(io.StringIO(text))
    assert [(int(r["rank"]), r["code"], int(r["likes"]), int(r["people"])) for r in written] == rows


async def test_sealing_again_gives_the_same_result(sealed: Cast, read_again: ReadAgain) -> None:
    await read_again()
    before = (await sealed.campaign.get("/tally.json")).json()["tally"]

    first, second = (sealed.campaign.system.cli("seal", sealed.campaign.id, *END).stdout for _ in range(2))

    assert first == second
    assert (await sealed.campaign.get("/tally.json")).json()["tally"] == before


async def test_the_public_record_lists_every_receipt_a_voter_got_and_no_person(sealed: Cast) -> None:
    printed = sealed.campaign.system.cli("record", sealed.campaign.id).stdout

    rows = list(csv.DictReader(io.StringIO(printed)))
    assert {(row["candidate"], row["receipt"]) for row in rows} == sealed.receipts
    assert len(rows) == 5
    assert set(rows[0]) == {"window", "candidate", "receipt"}


async def test_the_record_does_not_tell_which_likes_are_of_one_person(campaign: CampaignClient) -> None:
    person_of: dict[str, int] = {}
    for person in range(12):
        answer = await (await campaign.voter()).like("c01", "c02")
        person_of |= {each["receipt"]: person for each in answer["results"]}
    await until_in_ledger(campaign, 24)

    rows = list(csv.DictReader(io.StringIO(campaign.system.cli("record", campaign.id).stdout)))

    c01, c02 = ([row["receipt"] for row in rows if row["candidate"] == code] for code in ("c01", "c02"))
    assert (c01, c02) == (sorted(c01), sorted(c02)), "a receipt is a keyed hash of both: its order tells nothing"
    first, second = ([person_of[receipt] for receipt in receipts] for receipts in (c01, c02))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second, "row by row the same people"


async def test_the_record_alone_gives_the_tally(sealed: Cast) -> None:
    rows = csv.DictReader(io.StringIO(sealed.campaign.system.cli("record", sealed.campaign.id).stdout))
    tally = (await sealed.campaign.get("/tally.json")).json()["tally"]

    counted = [row["candidate"] for row in rows]

    assert {row["code"]: counted.count(row["code"]) for row in tally} == {row["code"]: row["likes"] for row in tally}


def test_the_readmes_program_gives_the_tally(sealed: Cast, tmp_path: Path) -> None:
    (tmp_path / "record.csv").write_text(sealed.campaign.system.cli("record", sealed.campaign.id).stdout)
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.+?)```", readme, re.DOTALL)

    counted = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert counted.stdout == "Counter({'c01': 3, 'c02': 2})\n"


def recounted(campaign: CampaignClient) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a recount."""
    done = campaign.system.cli("recount", campaign.id, "--json", check=False)
    return done.returncode, json.loads(done.stdout)


async def test_a_recount_before_the_seal_is_equal_once_the_likes_are_in_the_ledger(campaign: CampaignClient) -> None:
    await cast_in(campaign)
    await until_in_ledger(campaign, 5)

    assert recounted(campaign)[0] == 0


async def test_the_ledger_is_taken_for_right_only_by_somebody_who_has_seen_the_numbers(
    system: System, campaign: CampaignClient
) -> None:
    voter = await campaign.voter()
    await voter.like("c01")
    await until_in_ledger(campaign, 1)

    asked = system.cli("restore", campaign.id, "--accept-ledger", check=False)
    done = system.cli("restore", campaign.id, "--accept-ledger", "--yes")

    assert (asked.returncode, asked.stdout) == (1, "")
    assert "run this again with --yes" in asked.stderr
    assert done.stdout == f"The store has lost nothing of {campaign.id}.\n"


async def test_a_recount_finds_a_like_taken_out_of_the_ledger(campaign: CampaignClient) -> None:
    await cast_in(campaign)
    await until_in_ledger(campaign, 5)
    await sql(campaign, TAKE_OUT_A_LIKE, await number_of(campaign))

    code, document = recounted(campaign)

    assert code == 1
    assert counts_in(document) == [5, 5, 4, 4]
    assert document["differences"] == [
        "candidate 2: store 2, counts 2, ledger 1, identities 1",
        "1 likes more or less in an hour of the timeline than the rows say",
    ]
    assert "DIFFERENT\ncandidate 2: " in campaign.system.cli("recount", campaign.id, check=False).stdout
    assert "Not sealed" in campaign.system.cli("seal", campaign.id, *END, check=False).stderr


async def test_a_recount_finds_a_count_that_was_changed(campaign: CampaignClient) -> None:
    await cast_in(campaign)
    await until_in_ledger(campaign, 5)
    await campaign.stores.lifecycle.close(campaign.id)  # or the worker may find the open store behind, and say so
    await sql(campaign, RAISE_A_COUNT, await number_of(campaign))

    code, document = recounted(campaign)

    assert code == 1
    assert counts_in(document) == [5, 105, 5, 5]


async def test_a_recount_finds_a_counter_of_the_store_that_was_changed(campaign: CampaignClient) -> None:
    await cast_in(campaign)
    await until_in_ledger(campaign, 5)
    await campaign.stores.sealer.seal(campaign.id, drain_s_max=5)  # or the worker may find the store ahead, and say so
    client = open_client(campaign.system.stores.redis_url)
    await client.hincrby(keys.counts(Shard(campaign.id, 0)), "3", 7)
    await client.aclose()

    code, document = recounted(campaign)

    assert code == 1
    assert counts_in(document) == [12, 5, 5, 5]
    assert "candidate 3: store 7, counts 0, ledger 0, identities 0" in document["differences"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sealed_tallies SET likes = likes + 1 WHERE campaign = $1 AND candidate = 2",
        "UPDATE sealed_tallies SET people = people + 1 WHERE campaign = $1 AND candidate = 2",
    ],
    ids=["likes", "people"],
)
async def test_a_recount_finds_a_sealed_tally_that_was_changed(campaign: CampaignClient, change: str) -> None:
    await cast_in(campaign)
    campaign.system.cli("seal", campaign.id, *END)
    await sql(campaign, change, await number_of(campaign))

    code, document = recounted(campaign)

    assert code == 1
    assert counts_in(document) == [5, 5, 5, 5]
    assert document["differences"][0].startswith("candidate 2: sealed ")


@contextmanager
def no_worker(system: System) -> Iterator[None]:
    """Nobody carries likes to the ledger until the block ends."""
    pid = system.pid_of("tally_worker")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_seal_without_a_worker_says_so_and_works_when_there_is_one(campaign: CampaignClient) -> None:
    with no_worker(campaign.system):
        cast = await cast_in(campaign)
        refused = campaign.system.cli("seal", campaign.id, *END, "--drain", "1", check=False)
        assert_problem(await cast.voters[0].ask("c05"), 409, "closed")

    assert refused.returncode == 1
    assert "Is a tally worker running?" in refused.stderr
    assert (await campaign.results())["sealed"] is False
    assert sealed_now(campaign) == [5, 5, 5, 5]


async def test_a_seal_that_was_killed_in_the_middle_is_run_again_and_loses_nothing(campaign: CampaignClient) -> None:
    with no_worker(campaign.system):
        cast = await cast_in(campaign)
        seal = await asyncio.to_thread(_sealing, campaign)

        async def closed() -> bool:
            return (await cast.voters[0].ask("c01")).status_code == 409

        await until(closed, what="the seal has closed the campaign")
        seal.kill()
        seal.wait()

    assert sealed_now(campaign) == [5, 5, 5, 5]
    assert recounted(campaign)[0] == 0


def _sealing(campaign: CampaignClient) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dianzan.cli", "seal", campaign.id, *END, "--data", str(campaign.system.data)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("command", [("seal",), ("campaign", "close")], ids=["seal", "close"])
async def test_nothing_ends_a_campaign_unasked(campaign: CampaignClient, command: tuple[str, ...]) -> None:
    await cast_in(campaign)
    await until_in_ledger(campaign, 5)

    without_reason = campaign.system.cli(*command, campaign.id, "--yes", check=False)
    without_yes = campaign.system.cli(*command, campaign.id, "--early", "the sponsor withdrew", check=False)
    with_blanks = campaign.system.cli(*command, campaign.id, "--yes", "--early", "  ", check=False)

    assert (without_reason.returncode, without_yes.returncode, with_blanks.returncode) == (1, 1, 1)
    assert "takes likes until 20" in without_reason.stderr
    assert "write why: --early REASON" in without_reason.stderr
    assert "--early REASON" in with_blanks.stderr
    assert (
        f"Campaign {campaign.id} (为榜样点赞) has 5 likes so far, and `closes` is in 0 days and 23"
        in without_yes.stderr
    )
    assert "run this again with --yes" in without_yes.stderr
    assert await (await campaign.voter()).statuses("c01") == ["counted"], "it goes on"


async def test_why_a_campaign_ended_early_is_kept(campaign: CampaignClient) -> None:
    campaign.system.cli("campaign", "close", campaign.id, "--yes", "--early", "the sponsor withdrew")

    [row] = await sql(campaign, "SELECT ended_early FROM campaigns WHERE number = $1", await number_of(campaign))
    assert row["ended_early"] == "the sponsor withdrew"
    campaign.system.cli("seal", campaign.id)  # what is closed is sealed without another question


async def test_a_campaign_that_is_past_its_end_needs_no_reason(campaign: CampaignClient) -> None:
    past = (
        "UPDATE campaigns SET rules = rules || jsonb_build_object('closes', now() - interval '1 min') WHERE number = $1"
    )
    await sql(campaign, past, await number_of(campaign))

    asked = campaign.system.cli("seal", campaign.id, check=False)

    assert "and `closes` has passed" in asked.stderr
    assert "Sealed" in campaign.system.cli("seal", campaign.id, "--yes").stdout
    [row] = await sql(campaign, "SELECT ended_early FROM campaigns WHERE number = $1", await number_of(campaign))
    assert row["ended_early"] is None


async def test_a_terminal_is_asked(campaign: CampaignClient) -> None:
    for answer, said in (("n", "Nothing was changed"), ("y", "Closed")):
        printed = await asyncio.to_thread(_at_a_terminal, campaign, answer)
        assert "0 likes so far" in printed
        assert said in printed


def _at_a_terminal(campaign: CampaignClient, answer: str) -> str:
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "dianzan.cli", "campaign", "close", campaign.id, "--early", "why", "--data"]
    with subprocess.Popen(
        [*words, str(campaign.system.data)], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        printed = process.communicate(timeout=60)[0]
    for end in (ours, theirs):
        os.close(end)
    return printed


async def test_sealing_again_a_tally_that_was_changed_fails(campaign: CampaignClient) -> None:
    await cast_in(campaign)
    campaign.system.cli("seal", campaign.id, *END)
    await sql(campaign, "UPDATE sealed_tallies SET rank = 1 WHERE campaign = $1", await number_of(campaign))

    again = campaign.system.cli("seal", campaign.id, check=False)

    assert again.returncode == 1
    assert "DIFFERENT" in again.stderr
    assert "candidate 2: sealed 2 likes of 2 people, rank 1, ledger 2 likes of 2 people, rank 2" in again.stderr
