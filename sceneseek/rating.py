"""What the service stores of a rating and training reads again: its scale, and how it names an image."""

from __future__ import annotations

# 1: no match, 4: full match.
LOWEST, HIGHEST = 1, 4


def is_relative(name: str) -> bool:
    """Whether a name is a relative path in its shortest form: it stays in its folder and has no other spelling."""
    return not {"", ".", ".."} & set(name.split("/"))
