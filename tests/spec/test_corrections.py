"""What operators are promised of files that change a campaign: shown first, kept, and nothing lost unsaid."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from loadtests.system import own_environment

from dianzan.cli.stores import Stores
from dianzan.domain.campaign_file import read_rules
from dianzan.domain.errors import CampaignError
from dianzan.roster.candidates import Candidate, read_roster
from tests.support.client import CampaignClient, candidates, publish, rules
from tests.support.system import System
from tests.support.wait import until

CASES = Path(__file__).parents[1] / "cases"
CORRECTION = "code,name\nC01,改名\nc09,新人\n"


def roster_file(folder: Path, content: str) -> Path:
    path = folder / "roster.csv"
    path.write_bytes(content.encode("utf-8-sig"))
    return path


def at_a_terminal(system: System, *words: str | Path, answer: str) -> tuple[int, str]:
    """Run a command at a terminal of 80 columns and type an answer; returns its exit code and what was to be seen."""
    ours, theirs = pty.openpty()
    environment = own_environment({"DIANZAN_DATA": str(system.data), "COLUMNS": "80", "TERM": "xterm"})
    command = [sys.executable, "-m", "dianzan.cli", *map(str, words)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    return process.wait(60), seen.decode()


async def known(stores: Stores, campaign: str) -> dict[str, Candidate]:
    stored = await stores.lifecycle.stored(campaign)
    return {each.code: each for each in (await stores.ledger.campaigns.candidates(stored)).values()}


def changes_of(system: System, campaign: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(system.cli("campaign", "changes", campaign, "--json").stdout)["changes"]
    return found


# ---- a roster -------------------------------------------------------------------------------------------------------


async def test_a_correction_of_a_running_campaign_is_shown_first_and_refused_where_nobody_can_agree(
    system: System, campaign: CampaignClient, stores: Stores, tmp_path: Path
) -> None:
    before = await known(stores, campaign.id)

    done = system.cli("campaign", "import-candidates", campaign.id, roster_file(tmp_path, CORRECTION), check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "c01 name: '候选人1' → '改名'\nc09 name: (empty) → '新人'\n" in done.stderr
    assert "run this again with --yes" in done.stderr
    assert await known(stores, campaign.id) == before
    assert changes_of(system, campaign.id) == []


async def test_what_a_correction_changed_is_kept_and_columns_it_lacks_are_left_alone(
    system: System, campaign: CampaignClient, stores: Stores, tmp_path: Path
) -> None:
    before = await known(stores, campaign.id)

    done = system.cli("campaign", "import-candidates", campaign.id, roster_file(tmp_path, CORRECTION), "--yes")

    assert done.stdout == "1 candidates added, 1 corrected, in force now.\n"
    after = await known(stores, campaign.id)
    assert after.pop("c09") == Candidate("c09", "新人", "person", "", "", "", "", "")
    assert after["c01"].name == "改名"
    assert after["c01"].district == before["c01"].district != ""
    assert {code: each for code, each in after.items() if code != "c01"} == {
        code: each for code, each in before.items() if code != "c01"
    }
    kept = changes_of(system, campaign.id)
    assert [[each["change"][name] for name in ("code", "field", "before", "after")] for each in kept] == [
        ["c01", "name", "候选人1", "改名"],
        ["c09", "kind", "", "person"],
        ["c09", "name", "", "新人"],
    ]
    assert datetime.fromisoformat(kept[0]["changed_at"]) <= datetime.now(UTC)
    first, *_ = system.cli("campaign", "changes", campaign.id).stdout.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d  c01 name: '候选人1' → '改名'", first)


async def test_at_a_terminal_the_operator_is_asked(
    system: System, campaign: CampaignClient, stores: Stores, tmp_path: Path
) -> None:
    file = roster_file(tmp_path, "code,name\nc01,改名\n")

    for answer, expected in (("n", (1, "候选人1")), ("", (1, "候选人1")), ("y", (0, "改名"))):
        code, seen = at_a_terminal(system, "campaign", "import-candidates", campaign.id, file, answer=answer)
        assert "'候选人1' → '改名'" in seen
        assert (code, (await known(stores, campaign.id))["c01"].name) == expected, seen


async def test_a_file_that_changes_nothing_asks_nothing(
    system: System, campaign: CampaignClient, tmp_path: Path
) -> None:
    file = roster_file(tmp_path, "code,name\nc01,候选人1\n")

    done = system.cli("campaign", "import-candidates", campaign.id, file)

    assert (done.stdout, done.stderr) == ("0 candidates added, 0 corrected, in force now.\n", "")


async def test_a_roster_that_others_changed_meanwhile_is_not_changed_unseen(
    stores: Stores, campaign: CampaignClient
) -> None:
    roster = read_roster("a.csv", "code,name\nc01,改名\n".encode())
    agreed = await stores.lifecycle.roster_changes(campaign.id, roster)
    await stores.lifecycle.import_candidates(campaign.id, [Candidate("c01", "他", "person", "", "", "", "", "")])

    with pytest.raises(CampaignError, match="was changed meanwhile"):
        await stores.lifecycle.import_candidates(campaign.id, roster.candidates, columns=roster.columns, agreed=agreed)


async def test_a_draft_is_corrected_without_a_question_and_without_a_trace(
    system: System, stores: Stores, tmp_path: Path
) -> None:
    draft = rules()
    await stores.lifecycle.create(draft)
    for name, said in (
        ("full.csv", "2 candidates added, 0 corrected"),
        ("correction.csv", "0 candidates added, 1"),
    ):
        assert system.cli("campaign", "import-candidates", draft.id, CASES / name).stdout.startswith(said)

    assert (await known(stores, draft.id))["m1"] == Candidate(
        "m1", "何小曼", "team", "东城区", "社区服务", "十年如一日", "很长的故事", "https://img.example/m1.jpg"
    )
    assert changes_of(system, draft.id) == []


# ---- what is over ---------------------------------------------------------------------------------------------------


async def test_a_campaign_that_is_over_is_not_published_and_its_id_can_still_be_used(
    system: System, stores: Stores, tmp_path: Path
) -> None:
    last_year = read_rules(CASES / "last_year.yaml")
    await stores.lifecycle.create(last_year)
    await stores.lifecycle.import_candidates(last_year.id, candidates(2))

    done = system.cli("campaign", "publish", last_year.id, check=False)

    assert (done.returncode, done.stdout) == (1, "")
    assert "is over before it begins: closes is 2025-12-21 00:00:00+08:00" in done.stderr
    now = datetime.now(UTC)
    again = last_year.model_copy(update={"opens": now, "closes": now + timedelta(days=20)})
    await stores.lifecycle.create(again)
    assert (await stores.lifecycle.publish(last_year.id)).version > 1


async def test_publishing_again_is_no_question_of_time(stores: Stores) -> None:
    soon = rules(closes=datetime.now(UTC) + timedelta(seconds=1.5))
    await publish(stores, soon, candidates(2))

    async def is_over() -> bool:
        return datetime.now(UTC) > soon.closes

    await until(is_over)

    assert (await stores.lifecycle.publish(soon.id)).rules == soon


# ---- what is printed ------------------------------------------------------------------------------------------------


MARKUP = "老街[/]新风 [red]x[/red] :smile: [link=https://a.example]"


@pytest.fixture
async def marked(system: System, stores: Stores) -> str:
    """A draft whose texts look like markup, with the longest id that is allowed."""
    draft = rules(title=MARKUP)
    draft = draft.model_copy(update={"id": f"{draft.id}-".ljust(32, "x")})
    await stores.lifecycle.create(draft)
    roster = read_roster("a.csv", (CASES / "markup_closing.csv").read_bytes())
    await stores.lifecycle.import_candidates(draft.id, roster.candidates)
    return draft.id


async def test_what_people_typed_is_never_markup(system: System, marked: str) -> None:
    listed = system.cli("campaign", "list").stdout
    shown = system.cli("campaign", "show", marked).stdout

    assert MARKUP in next(line for line in listed.splitlines() if marked in line)
    assert "教育[/科技]" in shown


async def test_a_text_that_an_older_version_took_cannot_steer_a_terminal(system: System, stores: Stores) -> None:
    draft = rules().model_copy(update={"title": "点\x1b[2J\n赞\u202e"})
    await stores.lifecycle.create(draft)

    for words in (("list",), ("show", draft.id)):
        assert "点\\x1b[2J\\n赞\\u202e" in system.cli("campaign", *words).stdout


async def test_into_a_pipe_a_list_is_whole_and_for_programs_it_is_json(system: System, marked: str) -> None:
    done = system.cli("campaign", "list", "--json")
    listed = {each["id"]: each for each in json.loads(done.stdout)["campaigns"]}

    assert listed[marked]["rules"]["title"] == MARKUP
    assert (listed[marked]["state"], listed["demo"]["state"]) == ("draft", "published")


async def test_at_a_terminal_of_80_columns_ids_and_dates_are_whole(system: System, marked: str) -> None:
    code, seen = at_a_terminal(system, "campaign", "list", answer="")

    [line] = [line for line in re.sub(r"\x1b\[[0-9;]*m", "", seen).splitlines() if marked in line]
    assert code == 0
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", line)) == 2
    [demo] = [line for line in seen.splitlines() if " demo " in line]
    assert "…" not in line + demo


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "gbk"])
def test_any_terminal_is_written_to(system: System, encoding: str) -> None:
    def printed(*words: str) -> bytes:
        environment = own_environment({"DIANZAN_DATA": str(system.data), "PYTHONIOENCODING": encoding})
        command: Sequence[Any] = [sys.executable, "-m", "dianzan.cli", *words]
        return subprocess.run(command, capture_output=True, check=True, env=environment, timeout=60).stdout

    assert b" demo " in printed("campaign", "list")
    assert (
        json.loads(printed("campaign", "show", "demo", "--json").decode("utf-8"))["candidates"][0]["name"] == "林晓禾"
    )


# ---- a file to begin with -------------------------------------------------------------------------------------------


def test_a_new_campaign_file_is_accepted_as_it_is_and_never_written_over_another(
    system: System, tmp_path: Path
) -> None:
    file = tmp_path / "campaign.yaml"
    printed = system.cli("campaign", "new").stdout

    assert system.cli("campaign", "new", file).stdout.startswith(f"Wrote {file}.")
    assert file.read_text(encoding="utf-8") == printed
    found = read_rules(file)
    assert datetime.now(UTC) < found.opens < found.closes
    assert sum(line.startswith("#") for line in printed.splitlines()) > 10
    again = system.cli("campaign", "new", file, check=False)
    assert (again.returncode, again.stderr) == (1, f"{file} cannot be written: File exists.\n")
