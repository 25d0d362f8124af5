"""What operators are promised of `dianzan campaign` and `dianzan token`: nothing is half done, no like is bent."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openpyxl
import pytest
import yaml

from dianzan.cli.stores import Stores
from dianzan.domain.errors import CampaignError
from dianzan.roster.candidates import Candidate
from tests.conftest import NewCampaign
from tests.spec.test_errors import assert_problem
from tests.support.client import CampaignClient, rules
from tests.support.system import END, System
from tests.support.wait import until

WriteRules = Callable[..., Path]
_numbers = itertools.count(1)
ROSTER = "code,name,district\nc01,王小明,东城区\nc02,李雷,西城区\n"


@pytest.fixture
def write_rules(tmp_path: Path) -> WriteRules:
    """Write a campaign file: `write_rules(id="x", closes="2026-12-21 08:00", …)`."""

    def write(**changes: Any) -> Path:
        now = datetime.now(UTC).replace(microsecond=0)
        usual = {
            "id": "changed",
            "title": "为榜样点赞",
            "opens": (now - timedelta(hours=1)).isoformat(),
            "closes": (now + timedelta(days=2)).isoformat(),
            "likes_per_window": 3,
            "shards": 4,
            "expected_voters": 1_000,
        }
        path = tmp_path / f"campaign-{next(_numbers)}.yaml"
        given = {name: value for name, value in {**usual, **changes}.items() if value is not None}
        path.write_text(yaml.safe_dump(given, allow_unicode=True), encoding="utf-8")
        return path

    return write


def roster_file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(system: System, *args: str | Path) -> str:
    """Run a command that must be refused by a sentence and exit code 1; returns the sentence."""
    done = system.cli(*args, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


async def all_refused(system: System, *commands: Sequence[str | Path]) -> list[str]:
    """Run commands side by side, since each takes most of a second to start; returns what each said."""
    return await asyncio.gather(*(asyncio.to_thread(refused, system, *command) for command in commands))


def client_of(system: System, stores: Stores, http: httpx.AsyncClient, campaign: str) -> CampaignClient:
    return CampaignClient(campaign, http, system, stores)


async def test_a_campaign_goes_from_a_file_to_likes_by_four_commands(
    system: System, stores: Stores, http: httpx.AsyncClient, write_rules: WriteRules, tmp_path: Path
) -> None:
    created = system.cli("campaign", "create", write_rules(id="by-hand", opens="2026-01-01", timezone="Asia/Shanghai"))
    imported = system.cli("campaign", "import-candidates", "by-hand", roster_file(tmp_path, "a.csv", ROSTER))
    asked = system.cli("campaign", "publish", "by-hand", check=False)
    assert (asked.returncode, "run this again with --yes" in asked.stderr) == (1, True), "it opened in January"
    published = system.cli("campaign", "publish", "by-hand", "--yes")
    assert system.cli("campaign", "publish", "by-hand").stdout == published.stdout, "again changes nothing"
    shown = json.loads(system.cli("campaign", "show", "by-hand", "--json").stdout)

    assert created.stdout.startswith("Created by-hand.")
    assert imported.stdout.startswith("2 candidates added, 0 corrected.")
    assert published.stdout.startswith("Published by-hand")
    assert (shown["id"], shown["state"]) == ("by-hand", "published")
    assert shown["rules"]["opens"] == "2026-01-01T00:00:00+08:00", "a time without an offset is the campaign's own"
    assert (shown["candidates"][0]["code"], shown["candidates"][0]["name"]) == ("c01", "王小明")
    assert "王小明" in system.cli("campaign", "show", "by-hand").stdout
    campaign = client_of(system, stores, http, "by-hand")
    await campaign.until_served()
    assert await (await campaign.voter()).statuses("c01", "c02") == ["counted", "counted"]


async def test_all_campaigns_are_listed_with_their_state(system: System, campaign: CampaignClient) -> None:
    listed = system.cli("campaign", "list").stdout

    assert "demo" in listed
    assert next(line for line in listed.splitlines() if f" {campaign.id} " in line).count("published") == 1


WRONG_RULES: list[tuple[dict[str, Any], list[str]]] = [
    ({"closes": None}, ["closes"]),
    ({"id": "Has Spaces", "window": "week", "likes_per_window": 0}, ["id", "window", "likes_per_window"]),
    ({"closes": "2020-01-01"}, ["closes must be later than opens"]),
    ({"timezone": "Asia/Peking"}, ["timezone", "Asia/Shanghai"]),
    ({"voter_classes": ["anyone"]}, ["voter_classes"]),
    ({"vote_classes": ["device"]}, ["vote_classes"]),
]


async def test_a_wrong_campaign_file_is_refused_with_every_problem_named(
    system: System, write_rules: WriteRules
) -> None:
    said = await all_refused(system, *(("campaign", "create", write_rules(**changes)) for changes, _ in WRONG_RULES))

    for sentence, (_changes, named) in zip(said, WRONG_RULES, strict=True):
        assert not [name for name in named if name not in sentence], sentence


async def test_a_file_that_is_not_there_or_not_yaml_is_refused_by_a_sentence(system: System, tmp_path: Path) -> None:
    no_rules, no_yaml, no_roster = await all_refused(
        system,
        ("campaign", "create", tmp_path / "nothing.yaml"),
        ("campaign", "create", roster_file(tmp_path, "x.yaml", "id: [\n")),
        ("campaign", "import-candidates", "demo", tmp_path / "nothing.csv"),
    )

    assert "cannot be read" in no_rules
    assert "YAML" in no_yaml
    assert "cannot be read" in no_roster


async def test_a_campaign_that_does_not_exist_is_named(system: System) -> None:
    commands = ("campaign show", "campaign publish", "campaign close", "token --count 1", "seal", "recount", "record")

    said = await all_refused(system, *((*command.split(), "nothing") for command in commands))

    assert not [sentence for sentence in said if "There is no campaign 'nothing'" not in sentence]


async def test_a_bad_roster_is_refused_whole_and_every_bad_line_named(
    system: System, campaign: CampaignClient, tmp_path: Path
) -> None:
    rows = ["code,name,kind", "d01,好人,person", "d 2,,person", "d03,坏,robot", "d01,又,team"]

    said = refused(
        system, "campaign", "import-candidates", campaign.id, roster_file(tmp_path, "b.csv", "\n".join(rows))
    )

    assert [line for line in ("line 2", "line 3", "line 4", "line 5") if f"{line}," in said] == [
        "line 3",
        "line 4",
        "line 5",
    ]
    assert "d01" not in system.cli("campaign", "show", campaign.id).stdout


def _workbook() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["编号", "姓名", "类型", "所属区"], ["e01", "王小明", "个人", "东城区"], ["e02", "雷锋班", "团队", ""]):
        sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


CHINESE = "编号,姓名,类型,所属区\r\ne01,王小明,个人,东城区\r\ne02,雷锋班,团队,\r\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("roster.xlsx", _workbook()),
        ("gb18030.csv", CHINESE.encode("gb18030")),
        ("bom.csv", CHINESE.encode("utf-8-sig")),
        ("utf8.csv", CHINESE.encode()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_rosters_are_read_as_offices_write_them(
    system: System, stores: Stores, tmp_path: Path, name: str, content: bytes
) -> None:
    draft = rules()
    await stores.lifecycle.create(draft)

    system.cli("campaign", "import-candidates", draft.id, roster_file(tmp_path, name, content))

    kept = await stores.ledger.campaigns.candidates(await stores.lifecycle.stored(draft.id))
    assert list(kept.values()) == [
        Candidate("e01", "王小明", "person", "东城区", "", "", "", ""),
        Candidate("e02", "雷锋班", "team", "", "", "", "", ""),
    ]


async def test_a_change_of_rules_that_would_bend_likes_already_cast_is_refused(
    system: System, campaign: CampaignClient, write_rules: WriteRules
) -> None:
    said = refused(
        system,
        "campaign",
        "create",
        write_rules(
            id=campaign.id,
            timezone="Europe/Paris",
            window="campaign",
            likes_per_window=4,
            shards=8,
            expected_voters=5,
            voter_classes=["verified"],
            opens="2026-01-01",
            closes="2026-01-02",
        ),
    )

    fields = ("timezone", "window", "likes_per_window", "shards", "expected_voters", "voter_classes", "opens", "closes")
    assert not [name for name in fields if f"\n  {name}: " not in said], said
    answer = await (await campaign.voter()).like("c01", "c02", "c03")
    assert answer["remaining"] == 0


async def test_title_end_and_candidates_may_change_and_take_effect_within_two_seconds(
    system: System, stores: Stores, new_campaign: NewCampaign, write_rules: WriteRules, tmp_path: Path
) -> None:
    campaign = await new_campaign(window="day")
    voter = await campaign.voter()
    first = (await voter.like("c01"))["results"][0]["receipt"]
    opens = (await stores.lifecycle.stored(campaign.id)).rules.opens.isoformat()
    closes = (datetime.now(UTC) + timedelta(days=9)).replace(microsecond=0)
    changed = write_rules(id=campaign.id, title="新标题", opens=opens, closes=closes.isoformat())
    added = roster_file(tmp_path, "more.csv", "code,name\nc01,改名\nc99,新人\n")

    system.cli("campaign", "create", changed)
    imported = system.cli("campaign", "import-candidates", campaign.id, added, "--yes").stdout
    assert imported == "1 candidates added, 1 corrected, in force now.\n"

    async def in_force() -> bool:
        summary, c01 = (await campaign.get()).json(), (await campaign.get("/candidates/c01")).json()
        shown = (summary["title"], c01["name"]) == ("新标题", "改名")
        return shown and await voter.statuses("c99") != ["unknown_candidate"]

    await until(in_force, within_s=2)
    assert datetime.fromisoformat((await campaign.get()).json()["closes"]) == closes
    mine = (await voter.mine())["likes"]
    assert [like["candidate"] for like in mine] == ["c01", "c99"]
    assert mine[0]["receipt"] == first


async def test_a_time_zone_that_the_ledger_cannot_tell_is_refused(stores: Stores) -> None:
    wanted = rules().model_copy(update={"timezone": "Mars/Olympus"})

    with pytest.raises(CampaignError, match="Postgres does not know 'Mars/Olympus'"):
        await stores.lifecycle.create(wanted)

    assert await stores.ledger.campaigns.one(wanted.id) is None


async def test_a_campaign_without_candidates_is_not_published(system: System, stores: Stores) -> None:
    draft = rules()
    await stores.lifecycle.create(draft)

    publish, close, token = await all_refused(
        system, ("campaign", "publish", draft.id), ("campaign", "close", draft.id), ("token", draft.id, "--count", "1")
    )

    assert "has no candidates" in publish
    assert "never published" in close
    assert "not been published" in token


async def test_closed_is_for_good(
    system: System, campaign: CampaignClient, write_rules: WriteRules, tmp_path: Path
) -> None:
    voter = await campaign.voter()
    await voter.like("c01")

    assert f"Closed {campaign.id}." in system.cli("campaign", "close", campaign.id, *END).stdout

    assert_problem(await voter.ask("c02"), 409, "closed")
    assert [like["candidate"] for like in (await voter.mine())["likes"]] == ["c01"]
    roster = roster_file(tmp_path, "more.csv", ROSTER)
    said = await all_refused(
        system,
        ("campaign", "publish", campaign.id),
        ("campaign", "create", write_rules(id=campaign.id)),
        ("campaign", "import-candidates", campaign.id, roster),
    )
    assert not [sentence for sentence in said if "permanently" not in sentence]
    system.cli("campaign", "close", campaign.id, *END)
    assert_problem(await voter.ask("c02"), 409, "closed")


async def test_the_same_subject_is_the_same_voter_and_another_is_not(
    system: System, open_campaign: CampaignClient
) -> None:
    printed = system.cli("token", open_campaign.id, "--subject", "张三", "--subject", "李四").stdout.split()
    again = system.cli("token", open_campaign.id, "--subject", "张三").stdout.split()
    zhang, li, zhang_again = (open_campaign.with_token(token) for token in (*printed, *again))

    assert await zhang.statuses("c01") == ["counted"]
    assert await zhang_again.statuses("c01") == ["already_liked"]
    assert await li.statuses("c01") == ["counted"]


async def test_a_subject_may_be_any_bytes(system: System, open_campaign: CampaignClient) -> None:
    printed = system.cli("token", open_campaign.id.upper(), "--subject", "\udcff").stdout.split()

    assert await open_campaign.with_token(printed[0]).statuses("c01") == ["counted"]


async def test_as_many_random_tokens_are_printed_as_asked_for(system: System, open_campaign: CampaignClient) -> None:
    tokens = system.cli("token", open_campaign.id, "--count", "50").stdout.split()

    assert len(set(tokens)) == 50
    assert await open_campaign.with_token(tokens[49]).statuses("c01") == ["counted"]


async def test_a_token_may_be_of_the_verified_class(system: System, new_campaign: NewCampaign) -> None:
    campaign = await new_campaign(voter_classes=["verified"])

    tokens = system.cli("token", campaign.id, "--subject", "a", "--class", "verified").stdout.split()
    device = system.cli("token", campaign.id, "--subject", "b").stdout.split()

    assert await campaign.with_token(tokens[0]).statuses("c01") == ["counted"]
    assert_problem(await campaign.with_token(device[0]).ask("c01"), 403, "class_not_allowed")


def test_commands_without_a_running_system_say_what_to_do(tmp_path: Path) -> None:
    said = refused(System(tmp_path / "nothing"), "campaign", "list")

    assert "dianzan up" in said
    assert "--data" in said


def test_one_store_address_without_the_other_is_refused(system: System) -> None:
    lonely = System(system.data, {"DIANZAN_REDIS_URL": "redis://127.0.0.1:1/0"})

    assert "Set both DIANZAN_REDIS_URL and DIANZAN_DATABASE_URL" in refused(lonely, "campaign", "list")
