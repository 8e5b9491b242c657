"""Links, anchors, file names and functions in the documentation exist."""

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
    """The page without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub generates for a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def broken(page: Path, text: str) -> list[str]:
    """The broken relative links in a text on a page."""
    links = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            links.append(link)
    return links


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_relative_links_and_anchors_exist(page: Path) -> None:
    assert not broken(page, prose(page))


@pytest.mark.parametrize("link", ["nowhere.md", "README.md#no-such-heading", "#no-such-heading"])
def test_broken_link_is_detected(link: str) -> None:
    assert broken(ROOT / "README.md", f"[text]({link})") == [link]


def test_pages_referenced_in_code_and_settings_exist() -> None:
    for file in [*commands.commented(), *commands.pages()]:
        for name in re.findall(r"(?<![\w/.])(docs/[\w./-]+\.(?:md|txt|toml))", file.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), (file.name, name)


def test_every_page_is_listed_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", prose(index))}
    assert {page for page in (ROOT / "docs").rglob("*.md") if "adr" not in page.parts} - {index} <= linked


def test_test_files_referenced_in_pages_exist() -> None:
    names = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    for page in commands.pages():
        for name in re.findall(r"\b(test_\w+\.py)`", prose(page)):
            assert name in names, (page.name, name)


def test_command_line_reference_is_up_to_date() -> None:
    program = ROOT / "scripts" / "command_line_reference.py"
    generated = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True).stdout
    if "Not installed" in generated:
        pytest.skip("a command's packages are not installed")
    committed = (ROOT / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert generated == committed, "run python scripts/command_line_reference.py >docs/reference/command-line.md"


def test_functions_listed_in_architecture_page_exist() -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|[^|]+\| `([\w/]+\.py)` \| `([\w.]+)` \|$", text, re.MULTILINE)
    assert len(rows) > 30
    for file, function in rows:
        code = (ROOT / file).read_text(encoding="utf-8")
        for name in function.split("."):
            assert re.search(rf"(?:def|class) {name}\b", code), (file, function)
