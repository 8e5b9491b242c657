"""Texts from anywhere (captions, file names, settings) -> texts that are only read, never obeyed."""

from __future__ import annotations

import html
import re

from sceneseek.errors import one_line

_MARKS = re.compile(r"([\\`*_{}\[\]|#~])")
_LINK = re.compile(r":(?=//)|(?<=\bwww)\.", re.IGNORECASE)
# Of a list, a rule or a heading.
_LINE_START = re.compile(r"^(?:([-+=])(?=[-+=\s]|$)|(\d+)([.)])(?=\s|$))")


def plain(text: str) -> str:
    """The text as one line; control characters, surrogates and what turns its direction become visible."""
    return one_line(" ".join(text.split()))


def for_html(text: str) -> str:
    """As an element's text, or as an attribute's value in quotation marks."""
    return html.escape(plain(text), quote=True)


def for_markdown(text: str) -> str:
    """As text of a paragraph, a list or a table's cell: no markup, no HTML, no link."""
    marked = _MARKS.sub(r"\\\1", plain(text))
    unlinked = _LINK.sub(lambda found: f"&#{ord(found[0])};", html.escape(marked, quote=False))
    return _LINE_START.sub(lambda found: rf"\{found[1]}" if found[1] else rf"{found[2]}\{found[3]}", unlinked)
