"""What a report consists of, and how it becomes HTML and Markdown.

A report is a list of sections, a section a list of blocks. Texts are plain; the templates in `templates/` escape
every value that they print, so a caption or a file name never becomes markup. Both files are made from the same
blocks and say the same; Markdown leaves out plots and thumbnails.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sceneseek.errors import one_line

TITLE = "Heads compared with human ratings"


class Block:
    """A part of a section."""

    __slots__ = ()

    @property
    def kind(self) -> str:
        """The name of the macro that writes it."""
        return type(self).__name__


@dataclass(frozen=True, slots=True)
class Text(Block):
    """A paragraph."""

    words: str


@dataclass(frozen=True, slots=True)
class Items(Block):
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Terms(Block):
    """Words and what they mean."""

    terms: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: its text, a note in small print, and whether it is the best of its column."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A table's row: its head, the cells behind it, and a label such as ``default``."""

    head: Cell
    cells: Sequence[Cell]
    mark: str = ""

    @classmethod
    def of(cls, head: str, *cells: str) -> Row:
        """A row of plain texts."""
        return cls(Cell(head), tuple(map(Cell, cells)))


@dataclass(frozen=True, slots=True)
class Table(Block):
    """A table.

    Attributes:
        title: above it.
        columns: their titles, the row heads' first.
        rows: each with a cell a column.
        folded: whether it holds the numbers of a plot; the page folds it away.
        words: how many of the columns, from the left, hold words and not numbers.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    folded: bool = False
    words: int = 1


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of numbers: a `title` above it, the `image` as a data URI, and what it `shows`, in words."""

    title: str
    image: str
    shows: str


@dataclass(frozen=True, slots=True)
class Plots(Block):
    """Plots side by side, and what to see in them."""

    plots: Sequence[Plot]
    caption: str


@dataclass(frozen=True, slots=True)
class Card:
    """A rated pair with its picture.

    Attributes:
        image: the file's name.
        thumbnail: a data URI; empty where there is none.
        flaw: why there is none.
        caption: the text.
        facts: what was rated and predicted, with their names.
    """

    image: str
    thumbnail: str
    flaw: str
    caption: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Cards(Block):
    """Pairs with their pictures, and the same as a table for Markdown."""

    cards: Sequence[Card]
    table: Table


@dataclass(frozen=True, slots=True)
class Branch:
    """A setting: its name, and its value or the settings below it."""

    name: str
    text: str
    branches: Sequence[Branch] = ()


@dataclass(frozen=True, slots=True)
class Tree(Block):
    """Nested settings."""

    branches: Sequence[Branch]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report with a title of its own."""

    title: str
    blocks: Sequence[Block]


def to_html(sections: Sequence[Section]) -> str:
    """One page that loads nothing: style, plots and thumbnails are inside."""
    return _render("report.html.jinja", sections, _plain)


def to_markdown(sections: Sequence[Section]) -> str:
    """The same sections with GitHub's tables, without plots."""
    return _render("report.md.jinja", sections, lambda text: Markup(for_markdown(text)))  # noqa: S704 - it escapes


def for_markdown(text: str) -> str:
    """As text of a paragraph, a list or a table's cell: no markup, no HTML, no link."""
    marked = _MARKS.sub(r"\\\1", _plain(text))
    unlinked = _LINK.sub(lambda found: f"&#{ord(found[0])};", html.escape(marked, quote=False))
    return _LINE_START.sub(lambda found: rf"\{found[1]}" if found[1] else rf"{found[2]}\{found[3]}", unlinked)


_MARKS = re.compile(r"([\\`*_{}\[\]|#~])")
_LINK = re.compile(r":(?=//)|(?<=\bwww)\.", re.IGNORECASE)
# Of a list, a rule or a heading.
_LINE_START = re.compile(r"^(?:([-+=])(?=[-+=\s]|$)|(\d+)([.)])(?=\s|$))")


def _plain(text: str) -> str:
    """One line; control characters, surrogates and marks of text direction become visible."""
    return one_line(" ".join(text.split()))


def _render(template: str, sections: Sequence[Section], quote: Callable[[str], str]) -> str:
    """A template filled in; `quote` prepares every printed value before Jinja2 escapes it, unless it is markup."""

    def finalize(value: Any) -> Any:
        return value if isinstance(value, Markup) else quote(str(value))

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=finalize,
    )
    return environment.get_template(template).render(title=TITLE, sections=sections)
