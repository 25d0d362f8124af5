"""The documents are true as far as a test can tell: links lead somewhere, commands exist, tables say what code says."""

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
SERVICES = ROOT / "services"
PATH = re.compile(r"`((?:services|tests|docs|deploy|loadtests|dianzan|vote_api|tally_worker|results_api)/[\w./*-]+)`")

COLUMNS_MAX = 100
TABLE_COLUMNS_MAX = 120  # a row cannot be broken
CELL_CHARS_MAX = 80  # a phrase


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
    named = PATH.findall(path.read_text(encoding="utf-8"))

    assert [name for name in named if not any(list(top.glob(name)) for top in (ROOT, SERVICES))] == []


@pytest.mark.parametrize("path", each_document())
def test_every_make_target_named_is_in_make_help(path: Path) -> None:
    helped = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {"help"}

    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", said(path))) - helped == set()


@pytest.mark.parametrize("path", each_document())
def test_every_command_named_exists(path: Path) -> None:
    known = commands(typer.main.get_command(app))
    named = set(re.findall(r"(?:^|[\s`/])(dianzan(?! is ready)(?: campaign)? [a-z][a-z-]*)", said(path), re.MULTILINE))

    assert named - known == set()


@pytest.mark.parametrize("path", each_document())
def test_every_alert_named_exists(path: Path) -> None:
    alerts = set(re.findall(r"- alert: (\w+)", (ROOT / "deploy" / "alerts.yml").read_text()))

    assert set(re.findall(r"\balert `(\w+)`", path.read_text(encoding="utf-8"))) - alerts == set()


def test_no_picture_stays_that_no_document_shows() -> None:
    shown = {link for path in DOCUMENTS for link in LINK.findall(path.read_text(encoding="utf-8"))}

    assert {f"docs/images/{path.name}" for path in (ROOT / "docs" / "images").iterdir()} - shown == set()


# ---- plain words ----------------------------------------------------------------------------------------------------

GLOSSARY = ROOT / "GLOSSARY.md"
ELSE = re.compile(r"(?:(\w+)\s+)?\belse\b")
WHO_ELSE = re.compile(r"(?:any|every|no|some)(?:body|one|thing|where)|wh(?:o|at|ere)", re.IGNORECASE)
SAY_INSTEAD = {
    r"\banew\b": "again",
    r"\bfor good\b": "permanently",
    r"\bbut for\b": "except",
    r"\bof more than [^.,;]*\bhalf\b": "the older half of",
    r"\bwhere (?:set|asked|it is set|one is set|there is none)\b": "if",
}


def typed(path: Path) -> list[str]:
    """The lines of a document that a person breaks: those that a program writes stand in docs/results."""
    return [] if path.parent.name == "results" else path.read_text(encoding="utf-8").splitlines()


def shown_width(line: str) -> int:
    """Characters of a line without the targets of its links, which cannot be broken."""
    return len(re.sub(r"\]\([^)]*\)", "]", line))


@pytest.mark.parametrize("path", each_document())
def test_a_document_fits_a_screen(path: Path) -> None:
    rows = [line for line in typed(path) if line.startswith("|")]

    assert [line for line in typed(path) if not line.startswith("|") and shown_width(line) > COLUMNS_MAX] == []
    assert [line for line in rows if shown_width(line) > TABLE_COLUMNS_MAX] == []
    assert [cell for line in rows for cell in line.strip("| ").split(" | ") if shown_width(cell) > CELL_CHARS_MAX] == []


@pytest.mark.parametrize("path", each_document())
def test_a_document_says_it_in_plain_words(path: Path) -> None:
    prose = " ".join(CODE.sub("", path.read_text(encoding="utf-8")).split())

    for pattern, better in SAY_INSTEAD.items():
        assert re.findall(pattern, prose, re.IGNORECASE) == [], f"say {better!r}"
    others = [before for before in ELSE.findall(prose.lower()) if not WHO_ELSE.fullmatch(before)]
    assert others == [], "say 'otherwise'"


def test_the_glossary_gives_each_word_one_sentence() -> None:
    rows = [line.strip("| ").split(" | ") for line in typed(GLOSSARY) if re.match(r"\| (?!word )\w", line)]
    words = [word for word, _chinese, _meaning in rows]

    assert len(rows) >= 25
    assert sorted(set(words)) == sorted(words), "a word stands twice"
    for word, chinese, meaning in rows:
        assert re.fullmatch(r"[a-z]+(?: [a-z]+)?", word), word
        assert re.fullmatch(r"[\u4e00-\u9fff]+", chinese), word
        assert re.fullmatch(r"[A-Z][^.!?]*\.", meaning), word


def folders_of(tree: str) -> set[Path]:
    """The folders of a drawn tree: a line each, deeper ones further to the right."""
    folders: set[Path] = set()
    above: list[tuple[int, Path]] = [(-1, ROOT)]
    for line in tree.splitlines():
        indent, name = len(line) - len(line.lstrip()), line.split()[0]
        above = [(depth, folder) for depth, folder in above if depth < indent]
        above.append((indent, above[-1][1] / name))
        folders.add(above[-1][1])
    return folders


def test_the_architecture_names_every_room() -> None:
    (tree,) = re.findall(r"^```\n(services/\n.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL | re.MULTILINE)
    tops = (SERVICES, ROOT / "loadtests", ROOT / "tests")
    rooms = {path.parent for top in tops for path in top.rglob("__init__.py")}

    assert rooms - folders_of(tree) == set()


# ---- the campaign file and the roster -------------------------------------------------------------------------------

CAMPAIGN_FILE = ROOT / "docs" / "campaign-file.md"


def default_of(name: str) -> str:
    field = Rules.model_fields[name]
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return '`""`' if value == "" else f"`{value}`"


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
