"""Links, anchors and file names in the documents lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import commands
from tests.stack import ROOT

PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")})


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken(page: Path, text: str) -> list[str]:
    """The relative links in a text on a page that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_relative_links_and_anchors_exist(page: Path) -> None:
    assert not broken(page, prose(page))


@pytest.mark.parametrize("link", ["nowhere.md", "README.md#no-such-heading", "#no-such-heading"])
def test_a_link_to_nowhere_is_found(link: str) -> None:
    assert broken(ROOT / "README.md", f"[text]({link})") == [link]


def test_pages_that_code_and_settings_name_exist() -> None:
    for file in [*commands.commented(), *commands.pages()]:
        for name in re.findall(r"(?<![\w/.])(docs/[\w./-]+\.(?:md|txt|toml))", file.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), (file.name, name)


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", prose(index))}
    assert {page for page in (ROOT / "docs").rglob("*.md") if "adr" not in page.parts} - {index} <= linked


def test_tests_that_pages_name_exist() -> None:
    names = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for page in commands.pages():
        for name in re.findall(r"\b(test_\w+\.py)`", prose(page)):
            assert name in names, (page.name, name)


def test_the_command_line_reference_is_up_to_date() -> None:
    program = ROOT / "scripts" / "command_line_reference.py"
    generated = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True).stdout
    if "Not installed" in generated:
        pytest.skip("a command's packages are not installed")
    committed = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert generated == committed, "run python scripts/command_line_reference.py >docs/reference/command-line.md"


def test_functions_on_the_ways_of_a_query_and_an_image_exist() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]+\| `([\w/]+\.py)` \| `([\w.]+)` \|$", text, re.MULTILINE)
    assert len(rows) > 30
    for file, function in rows:
        code = (ROOT / file).read_text(encoding="utf-8")
        for name in function.split("."):
            assert re.search(rf"(?:def|class) {name}\b", code), (file, function)
