"""A report's sections as Markdown (with GitHub's tables); plots are left to the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sceneseek_training.report.document import (
    TITLE,
    Block,
    Branch,
    Cards,
    Cell,
    Items,
    Plots,
    Row,
    Section,
    Table,
    Terms,
    Text,
    Tree,
)
from sceneseek_training.report.escape import for_markdown


def render(sections: Iterable[Section]) -> str:
    """The whole file."""
    parts = [f"# {TITLE}"]
    for section in sections:
        parts.append(f"## {for_markdown(section.title)}")
        parts += filter(None, map(_block, section.blocks))
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:  # noqa: PLR0911 - one a kind
    match block:
        case Text(words):
            return for_markdown(words)
        case Items(items):
            return "\n".join(f"- {for_markdown(item)}" for item in items)
        case Terms(terms):
            return "\n".join(f"- **{for_markdown(term)}**: {for_markdown(meaning)}" for term, meaning in terms)
        case Table():
            return _table(block)
        case Cards(table=table):
            return _table(table)
        case Tree(branches):
            return "\n".join(_branches(branches))
        case Plots():
            return ""


def _table(table: Table) -> str:
    rule = ["---" if i < table.words else "---:" for i in range(len(table.columns))]
    lines = [[for_markdown(column) for column in table.columns], rule, *map(_row, table.rows)]
    return f"### {for_markdown(table.title)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(row: Row) -> list[str]:
    beside = "; ".join(filter(None, (row.mark, row.head.small)))
    return [_cell(Cell(row.head.text, beside, best=bool(row.mark))), *map(_cell, row.cells)]


def _cell(cell: Cell) -> str:
    text = for_markdown(cell.text)
    small = f" ({for_markdown(cell.small)})" if cell.small else ""
    return (f"**{text}**" if cell.best else text) + small


def _branches(branches: Iterable[Branch], depth: int = 0) -> Iterator[str]:
    for branch in branches:
        text = f" {for_markdown(branch.text)}" if branch.text else ""
        yield f"{'  ' * depth}- {for_markdown(branch.name)}:{text}"
        yield from _branches(branch.branches, depth + 1)
