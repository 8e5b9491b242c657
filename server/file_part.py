"""Some bytes of a file as the body of an answer: read block by block, or sent by the server from the file itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

_BLOCK = 65_536


class FilePart:
    """The body.

    Args:
        file: open; closed with the body.
        start: of the first byte.
        stop: behind the last one.

    Attributes:
        file: it stands at the first byte, until the body is read.
    """

    def __init__(self, file: IO[bytes], start: int, stop: int) -> None:
        file.seek(start)
        self.file = file
        self._count = stop - start

    def __iter__(self) -> Iterator[bytes]:
        """The bytes."""
        while self._count and (block := self.file.read(min(_BLOCK, self._count))):
            self._count -= len(block)
            yield block

    def close(self) -> None:
        """Close the file."""
        self.file.close()
