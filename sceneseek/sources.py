"""A source of pictures by its recorded address: a folder of this machine, or a prefix of a bucket.

`open_file` and `holds_files` are all that reading a source takes once it is indexed; `sceneseek_indexer.walk` lists it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeAlias

from sceneseek.errors import InvalidRequest
from sceneseek.local_folder import Facts, SourceFile, open_below
from sceneseek.object_store import SCHEME, ObjectFolder

Root: TypeAlias = Path | ObjectFolder
"""Where a source's files are; its text is what an index records."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def parse_root(text: str) -> Root:
    """A path, or ``s3://BUCKET/PREFIX``.

    Raises:
        InvalidRequest: a URL of another kind, or one that holds credentials; the words do not repeat these.
    """
    if text.startswith(SCHEME):
        return ObjectFolder.parse(text)
    if url := _URL.match(text):
        raise InvalidRequest(f"{url[1]}:// names no source of pictures", f"name a folder, or {SCHEME}BUCKET/PREFIX")
    return Path(text)


def open_file(root: Root, relative: str, brief: bool = False) -> SourceFile:
    """Open a file of a source for reading.

    Args:
        root: of the source.
        relative: POSIX path below it.
        brief: for somebody who waits for an answer: give up after some seconds where an object store is slow.

    Raises:
        LeadsOut, NotAFile: see `sceneseek.local_folder`.
        OSError: it is not there, or cannot be read.
        SourceAway: the object store does not answer.
    """
    if isinstance(root, ObjectFolder):
        return root.open(relative, brief)
    content = open_below(root, relative)
    return SourceFile(content, Facts.of(os.fstat(content.fileno())))


def holds_files(root: Root) -> bool:
    """Whether there is anything in a source; False too if it cannot be reached."""
    if isinstance(root, ObjectFolder):
        return root.holds_any()
    try:
        with os.scandir(root) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
