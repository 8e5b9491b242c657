"""Sources of pictures: a local folder or a prefix of a bucket, by the address that an index records.

`open_file` and `holds_files` are for sources that are indexed; `sceneseek_indexer.walk` lists their files.
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
"""The root of a source; its `str` is recorded in the index."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def parse_root(text: str) -> Root:
    """Parse a path or ``s3://BUCKET/PREFIX``.

    Raises:
        InvalidRequest: it is another URL, or contains credentials, which the message does not repeat.
    """
    if text.startswith(SCHEME):
        return ObjectFolder.parse(text)
    if url := _URL.match(text):
        raise InvalidRequest(f"{url[1]}:// is not supported as a source", f"use a folder, or {SCHEME}BUCKET/PREFIX")
    return Path(text)


def open_file(root: Root, relative: str, brief: bool = False) -> SourceFile:
    """Open a file of a source for reading.

    Args:
        root: of the source.
        relative: POSIX path relative to it.
        brief: whether to time out after some seconds if an object store is slow, for interactive requests.

    Raises:
        LeadsOut, NotAFile: see `sceneseek.local_folder`.
        OSError: the file does not exist or cannot be read.
        SourceAway: the object store does not respond.
    """
    if isinstance(root, ObjectFolder):
        return root.open(relative, brief)
    content = open_below(root, relative)
    return SourceFile(content, Facts.of(os.fstat(content.fileno())))


def holds_files(root: Root) -> bool:
    """Whether a source contains anything; also False if it cannot be reached."""
    if isinstance(root, ObjectFolder):
        return root.holds_any()
    try:
        with os.scandir(root) as entries:
            return any(True for _ in entries)
    except OSError:
        return False
