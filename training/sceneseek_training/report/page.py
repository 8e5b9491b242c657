"""A report's sections as one HTML page that asks for nothing else: its style, plots and pictures are inside."""

from __future__ import annotations

from collections.abc import Iterable

from sceneseek_training.report.document import (
    TITLE,
    Block,
    Branch,
    Card,
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
from sceneseek_training.report.escape import for_html
from sceneseek_training.report.stylesheet import stylesheet

# Even if something slipped through the escaping, the browser would neither run nor fetch it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(sections: Iterable[Section]) -> str:
    """The whole file."""
    numbered = [(f"s{number}", section) for number, section in enumerate(sections, start=1)]
    links = "".join(f'<li><a href="#{anchor}">{for_html(section.title)}</a></li>' for anchor, section in numbered)
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{TITLE}</title>",
        f"<style>{stylesheet()}</style>",
        "</head>",
        "<body>",
        f"<header><h1>{TITLE}</h1><nav><ul>{links}</ul></nav></header>",
        "<main>",
    ]
    parts = [_section(anchor, section) for anchor, section in numbered]
    return "\n".join([*head, *parts, "</main>", "</body>", "</html>"]) + "\n"


def _section(anchor: str, section: Section) -> str:
    blocks = "\n".join(map(_block, section.blocks))
    return f'<section id="{anchor}">\n<h2>{for_html(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:  # noqa: PLR0911 - one a kind
    match block:
        case Text(words):
            return f"<p>{for_html(words)}</p>"
        case Items(items):
            return f"<ul>{''.join(f'<li>{for_html(item)}</li>' for item in items)}</ul>"
        case Terms(terms):
            return _terms(terms)
        case Table():
            return _table(block)
        case Plots():
            return _plots(block)
        case Cards(cards=cards):
            return f'<ul class="cards">{"".join(map(_card, cards))}</ul>'
        case Tree(branches):
            return f'<div class="tree">{_branches(branches)}</div>'


def _terms(terms: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{for_html(t)}</dt><dd>{for_html(meaning)}</dd>' for t, meaning in terms)}</dl>"


def _table(table: Table) -> str:
    columns = "".join(f'<th scope="col"{_word(i, table)}>{for_html(c)}</th>' for i, c in enumerate(table.columns))
    rows = "\n".join(_row(row, table) for row in table.rows)
    title = for_html(table.title)
    # What scrolls can be reached by keyboard.
    body = (
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0"><table>\n'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )
    if table.folded:
        return f"<details><summary>{title}</summary>{body}</details>"
    return f'<div class="table"><h3>{title}</h3>{body}</div>'


def _row(row: Row, table: Table) -> str:
    mark = f'<span class="mark">{for_html(row.mark)}</span>' if row.mark else ""
    small = f"<small>{for_html(row.head.small)}</small>" if row.head.small else ""
    head = f'<th scope="row" class="word"><bdi>{for_html(row.head.text)}</bdi>{mark}{small}</th>'
    cells = "".join(f"<td{_word(i, table)}>{_cell(cell)}</td>" for i, cell in enumerate(row.cells, start=1))
    marked = ' class="marked"' if row.mark else ""
    return f"<tr{marked}>{head}{cells}</tr>"


def _cell(cell: Cell) -> str:
    text = for_html(cell.text)
    return (f"<strong>{text}</strong>" if cell.best else text) + (
        f"<small>{for_html(cell.small)}</small>" if cell.small else ""
    )


def _word(column: int, table: Table) -> str:
    return ' class="word"' if column < table.words else ""


def _plots(block: Plots) -> str:
    plots = "\n".join(f"<div><h3>{for_html(plot.title)}</h3>\n{plot.svg}</div>" for plot in block.plots)
    return f'<figure><div class="plots">\n{plots}\n</div><figcaption>{for_html(block.caption)}</figcaption></figure>'


def _card(card: Card) -> str:
    name = for_html(card.image)
    picture = (
        f'<img src="{for_html(card.thumbnail)}" alt="{name}">'
        if card.thumbnail
        else (f"<span>{for_html(card.flaw)}</span>")
    )
    return (
        f'<li><div class="thumbnail">{picture}</div><div class="pair"><p><bdi>{for_html(card.caption)}</bdi></p>'
        f'{_terms(card.facts)}<p class="name"><bdi>{name}</bdi></p></div></li>'
    )


def _branches(branches: Iterable[Branch]) -> str:
    return f"<ul>{''.join(map(_branch, branches))}</ul>"


def _branch(branch: Branch) -> str:
    text = f" <bdi>{for_html(branch.text)}</bdi>" if branch.text else ""
    below = _branches(branch.branches) if branch.branches else ""
    return f"<li><b>{for_html(branch.name)}</b>{text}{below}</li>"
