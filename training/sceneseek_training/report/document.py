"""What a report consists of, whatever it is written as: sections of blocks. Texts are plain; renderers escape."""

from __future__ import annotations

from dataclasses import dataclass

TITLE = "Heads compared with human ratings"


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    words: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """Words and what they mean."""

    terms: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: its text, what stands beside it in small print, and whether it is the best of its column."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A table's row: what it is about, the cells behind it, and what sets it apart, such as ``default``."""

    head: Cell
    cells: tuple[Cell, ...]
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        title: above it.
        columns: their titles, the row heads' first.
        rows: each with a cell a column.
        folded: whether it holds the numbers of a plot, which a page keeps out of the way.
        words: how many of the columns, from the left, hold words and not numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: bool = False
    words: int = 1


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture of numbers: a `title` above it, and an `svg` element that takes its colours from the page."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class Plots:
    """Plots side by side, and what to see in them."""

    plots: tuple[Plot, ...]
    caption: str


@dataclass(frozen=True, slots=True)
class Card:
    """A rated pair with its picture.

    Attributes:
        image: the name.
        thumbnail: a data URI; empty where there is none.
        flaw: why there is none.
        caption: the text.
        facts: what was rated and predicted, with their names.
    """

    image: str
    thumbnail: str
    flaw: str
    caption: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Cards:
    """Pairs with their pictures, and the same as a table where there are no pictures."""

    cards: tuple[Card, ...]
    table: Table


@dataclass(frozen=True, slots=True)
class Branch:
    """A setting: its name, and its value or the settings below it."""

    name: str
    text: str
    branches: tuple[Branch, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """Settings in settings."""

    branches: tuple[Branch, ...]


Block = Text | Items | Terms | Table | Plots | Cards | Tree


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report with a title of its own."""

    title: str
    blocks: tuple[Block, ...]
