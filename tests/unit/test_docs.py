"""The documents are true where a test can tell: links lead somewhere, commands exist, tables say what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from dianzan.cli.main import app
from dianzan.domain.campaign import Rules
from dianzan.domain.campaign_file import parse_rules
from dianzan.roster import candidates
from dianzan.roster import table as roster_table

ROOT = Path(__file__).parents[2]
HIDDEN = {path for path in ROOT.iterdir() if path.name.startswith(".")}
DOCUMENTS = sorted(
    path for path in ROOT.rglob("*.md") if not HIDDEN & set(path.parents) and "node_modules" not in path.parts
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
PATH = re.compile(r"`((?:services|tests|docs|deploy|loadtests)/[\w./*-]+)`")


def each_document() -> list[Any]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in DOCUMENTS]


def anchors(path: Path) -> set[str]:
    """What a heading is called in a link, as GitHub makes it."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def table(path: Path, first: str) -> list[list[str]]:
    """The cells of the table whose first column has this title, without its two head lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def commands(command: Any, name: str = "dianzan") -> set[str]:
    """Every command and group by its whole name."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    return {name}.union(*(commands(each, f"{name} {word}") for word, each in inner.items()))


def said(path: Path) -> str:
    """All code of a document, in which commands are named."""
    return "\n".join(CODE.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", each_document())
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("path", each_document())
def test_every_path_named_exists(path: Path) -> None:
    assert [name for name in PATH.findall(path.read_text(encoding="utf-8")) if not list(ROOT.glob(name))] == []


@pytest.mark.parametrize("path", each_document())
def test_every_make_target_named_is_in_make_help(path: Path) -> None:
    helped = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {"help"}

    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", said(path))) - helped == set()


@pytest.mark.parametrize("path", each_document())
def test_every_command_named_exists(path: Path) -> None:
    known = commands(typer.main.get_command(app))
    named = set(re.findall(r"(?:^|[\s`/])(dianzan(?! is ready)(?: campaign)? [a-z][a-z-]*)", said(path), re.MULTILINE))

    assert named - known == set()


def test_no_picture_is_kept_that_no_document_shows() -> None:
    shown = {link for path in DOCUMENTS for link in LINK.findall(path.read_text(encoding="utf-8"))}

    assert {f"docs/images/{path.name}" for path in (ROOT / "docs" / "images").iterdir()} - shown == set()


# ---- the campaign file and the roster -------------------------------------------------------------------------------

CAMPAIGN_FILE = ROOT / "docs" / "campaign-file.md"


def default_of(name: str) -> str:
    field = Rules.model_fields[name]
    if field.is_required():
        return "required"
    value = field.default
    return f"`[{', '.join(value)}]`" if isinstance(value, tuple) else f"`{value}`"


def test_every_field_of_the_campaign_file_is_explained_with_its_default() -> None:
    documented = {row[0].strip("`"): row for row in table(CAMPAIGN_FILE, "field")}

    assert list(documented) == list(Rules.model_fields)
    assert {name: row[2] for name, row in documented.items()} == {name: default_of(name) for name in documented}
    assert all(len(row) == 5 and all(row) for row in documented.values())


def test_the_example_of_a_campaign_file_is_accepted() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", CAMPAIGN_FILE.read_text(encoding="utf-8"), re.DOTALL)

    assert parse_rules(yaml.safe_load(example), "the example").publisher_codes == ("bjnews", "btime")


def test_every_column_of_the_roster_is_explained_with_its_other_names() -> None:
    documented = {row[0].strip("`"): tuple(row[1].split(", ")) for row in table(CAMPAIGN_FILE, "column")}

    assert documented == {column: names[1:] for column, names in roster_table.COLUMN_NAMES.items()}
    rules = {row[0].strip("`"): row[2] for row in table(CAMPAIGN_FILE, "column")}
    assert {column for column, rule in rules.items() if rule.startswith("required")} == set(
        roster_table.REQUIRED_COLUMNS
    )


@pytest.mark.parametrize(
    ("column", "chars_max"),
    [
        ("code", candidates.CODE_CHARS_MAX),
        ("name", candidates.NAME_CHARS_MAX),
        ("district", candidates.LABEL_CHARS_MAX),
        ("category", candidates.LABEL_CHARS_MAX),
        ("summary", candidates.SUMMARY_CHARS_MAX),
        ("story", candidates.STORY_CHARS_MAX),
        ("photo", candidates.PHOTO_CHARS_MAX),
    ],
)
def test_the_rosters_limits_are_the_ones_that_are_checked(column: str, chars_max: int) -> None:
    rules = {row[0].strip("`"): row[2] for row in table(CAMPAIGN_FILE, "column")}

    assert re.search(rf"(at most|1 to) {chars_max:,} ", rules[column])
