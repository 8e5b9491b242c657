"""The building blocks of a report, and their rendering as HTML and Markdown.

A report is a list of sections, a section a list of blocks. Texts are plain; the templates in `templates/` escape all
values, so a caption or a file name never becomes markup. Both files are rendered from the same blocks; Markdown omits
plots and thumbnails.
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
        """The name of the macro that renders it."""
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
    """A list of terms with their meanings."""

    terms: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell: its text, a note in small print, and whether it is the best of its column."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A table row: its head, the other cells, and a label such as ``default``."""

    head: Cell
    cells: Sequence[Cell]
    mark: str = ""

    @classmethod
    def of(cls, head: str, *cells: str) -> Row:
        """Create a row from plain texts."""
        return cls(Cell(head), tuple(map(Cell, cells)))


@dataclass(frozen=True, slots=True)
class Table(Block):
    """A table.

    Attributes:
        title: title above the table.
        columns: column titles, beginning with that of the row heads.
        rows: the rows, with one cell per column.
        folded: whether the page collapses it, since it has only the numbers of a plot.
        words: number of columns, from the left, with words instead of numbers.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    folded: bool = False
    words: int = 1


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: its `title`, the `image` as a data URI, and what it `shows`, as alternative text."""

    title: str
    image: str
    shows: str


@dataclass(frozen=True, slots=True)
class Plots(Block):
    """Plots side by side, with a caption."""

    plots: Sequence[Plot]
    caption: str


@dataclass(frozen=True, slots=True)
class Card:
    """A rated pair with its picture.

    Attributes:
        image: name of the file.
        thumbnail: data URI; empty if there is none.
        flaw: why there is no thumbnail.
        caption: the text.
        facts: rating and prediction, as pairs of name and value.
    """

    image: str
    thumbnail: str
    flaw: str
    caption: str
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Cards(Block):
    """Rated pairs with their pictures, and as a table for Markdown."""

    cards: Sequence[Card]
    table: Table


@dataclass(frozen=True, slots=True)
class Branch:
    """A setting: its name, and its value or nested settings."""

    name: str
    text: str
    branches: Sequence[Branch] = ()


@dataclass(frozen=True, slots=True)
class Tree(Block):
    """Nested settings."""

    branches: Sequence[Branch]


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report."""

    title: str
    blocks: Sequence[Block]


def to_html(sections: Sequence[Section]) -> str:
    """Render one self-contained page, with style, plots and thumbnails inline."""
    return _render("report.html.jinja", sections, _plain)


def to_markdown(sections: Sequence[Section]) -> str:
    """Render the sections with GitHub's tables, without plots."""
    return _render("report.md.jinja", sections, lambda text: Markup(for_markdown(text)))  # noqa: S704 - it escapes


def for_markdown(text: str) -> str:
    """Escape text for a paragraph, a list or a table cell: no markup, no HTML, no links."""
    marked = _MARKS.sub(r"\\\1", _plain(text))
    unlinked = _LINK.sub(lambda found: f"&#{ord(found[0])};", html.escape(marked, quote=False))
    return _LINE_START.sub(lambda found: rf"\{found[1]}" if found[1] else rf"{found[2]}\{found[3]}", unlinked)


_MARKS = re.compile(r"([\\`*_{}\[\]|#~])")
_LINK = re.compile(r":(?=//)|(?<=\bwww)\.", re.IGNORECASE)
# The start of a list, a rule or a heading.
_LINE_START = re.compile(r"^(?:([-+=])(?=[-+=\s]|$)|(\d+)([.)])(?=\s|$))")


def _plain(text: str) -> str:
    """Return the text on one line, with control characters, surrogates and bidirectional marks made visible."""
    return one_line(" ".join(text.split()))


def _render(template: str, sections: Sequence[Section], quote: Callable[[str], str]) -> str:
    """Render a template; `quote` processes all values except markup before Jinja2 escapes them."""

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
