"""The files of a generation of the embedded engine: record, checksums, copy, removal, and disk space.

The engine rewrites some files of a shard whenever it opens it. All others are constant once the generation is
published, so their sizes and CRC-32 are part of the record.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sceneseek.errors import IndexUnavailable, UnfitGeneration, one_line
from sceneseek.files import UNREADABLE, sync
from sceneseek.store.base import CollectionInfo, Source

BUILDING, FINISHED = "building.json", "generation.json"
_REWRITTEN = {"edge_config.json", "segment.json", "tracker_journal.dat"}
RESTORE = "restore a backup, go back with `sceneseek index rollback`, or index the folders again with --rebuild"
# Bytes that must be free for a new generation, and for another batch: the engine writes to memory-mapped files, where a
# full disk kills the process without a message. An empty generation takes 15 MiB while it is filled.
_NEW, _RESERVE = 64 * 2**20, 32 * 2**20
# Measured bytes of payload per image, and the copies of all data on disk while segments are rewritten.
_PAYLOAD, _COPIES = 1_000, 2
# ENOSPC, EDQUOT and EFBIG, as the engine writes them.
_FULL = re.compile(rf"(os error|code:) ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\b|No space left")


def check_space(root: Path, info: CollectionInfo, images: int, copied: int | None = None) -> None:
    """Raise IndexUnavailable if the disk of an index has too little space for new images.

    Args:
        root: the directory of the index.
        info: of the generation.
        images: the number of images to write.
        copied: for a new generation, the bytes of the files to copy first; None for an existing one.
    """
    reserve = _RESERVE if copied is None else _NEW + copied
    needed = reserve + _COPIES * images * (5 * info.joint + 2 * info.head + _PAYLOAD)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise IndexUnavailable(
            f"the disk of the index {root} is full: {needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free",
            "free space there, or choose another --index",
        )


@contextlib.contextmanager
def full_disk(root: Path) -> Iterator[None]:
    """Turn the engine's failure on a full disk or quota into IndexUnavailable."""
    try:
        yield
    except BaseException as error:  # the engine's panics are no Exception
        if not _FULL.search(str(error)):
            raise
        raise IndexUnavailable(
            f"the disk or the quota of the index {root} is full ({error})",
            "free space there, or choose another --index",
        ) from error


def copy_shard(source: Path, target: Path) -> None:
    """Copy a shard, and sync the copy."""
    _copy(source, target)
    for path in (target, *target.rglob("*")):
        sync(path)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a directory as sparse files: the engine preallocates space, which shutil would fill with zeros."""
    done = subprocess.run(
        ["cp", "--recursive", "--reflink=auto", "--sparse=always", str(source), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise IndexUnavailable(
            f"the live generation cannot be copied ({done.stderr.strip()})",
            "free space there, or choose another --index",
        )


def link_shard(source: Path, target: Path, constant: Container[str]) -> None:
    """Copy a shard for reading, with hard links to its constant files if the file system supports them.

    Args:
        source: the shard.
        target: the directory to create, on the same disk.
        constant: the files to link, by their path in the shard.
    """
    try:
        for path in sorted(source.rglob("*")):
            copy, name = target / path.relative_to(source), str(path.relative_to(source))
            if path.is_dir():
                copy.mkdir(parents=True)
            elif name in constant:
                copy.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.rmtree(target, ignore_errors=True)
        copy_shard(source, target)
        return
    for path in source.rglob("*"):
        if path.is_file() and str(path.relative_to(source)) not in constant:
            _copy(path, target / path.relative_to(source))


def remove(directory: Path) -> None:
    """Remove a generation; the JSON files first, so that an interrupted removal leaves no generation."""
    for name in (FINISHED, BUILDING):
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Record:
    """The content of a JSON file of a generation.

    Attributes:
        info: see `CollectionInfo`.
        points: the number of points; None while it is unfinished.
        beside: the generation that was live when it began.
        files: size and CRC-32 of the constant files of the shard.
    """

    info: CollectionInfo
    points: int | None
    beside: str | None
    files: dict[str, list[int]]


def read_record(file: Path) -> Record | None:
    """Read a JSON file of a generation; None if it does not exist.

    Raises:
        UnfitGeneration: it cannot be read or is not valid.
    """
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        # Older programs wrote sources as plain folders.
        sources = [Source("", source) if isinstance(source, str) else Source(**source) for source in raw["sources"]]
        known = {field.name: raw[field.name] for field in dataclasses.fields(CollectionInfo) if field.name in raw}
        info = CollectionInfo(**{**known, "sources": tuple(sources)})
        points = raw.get("points")
        if info.name != file.parent.name or not isinstance(points, int | None):
            raise ValueError("it describes another generation")
        return Record(info, points, raw.get("beside"), dict(raw.get("files", {})))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (*UNREADABLE, AttributeError, RecursionError) as error:
        raise UnfitGeneration(f"{file} is damaged ({one_line(str(error))})", RESTORE) from error


def check_sizes(directory: Path, record: Record) -> None:
    """Raise UnfitGeneration if a file is missing or truncated: reading a truncated file kills the process."""
    for name, (size, _) in record.files.items():
        file = directory / "shard" / name
        found = file.stat().st_size if file.is_file() else -1
        if found < size:
            state = "is missing" if found < 0 else f"is damaged: it has {found:,} of {size:,} bytes"
            raise UnfitGeneration(f"the file {file} {state}", RESTORE)


def read_ahead(directory: Path, record: Record, most: float) -> None:
    """Read the constant files of at most `most` bytes into the page cache.

    The engine evicts a generation from that cache when it closes it, and searches read page by page: 50 MB take over a
    second, instead of 0.05 s here.
    """
    block = bytearray(1 << 20)
    for name, (size, _) in record.files.items():
        file = directory / "shard" / name
        # Skips sparse files: space that was allocated and not written yet.
        if size <= most and 2 * 512 * file.stat().st_blocks > size:
            # If the file cannot be read, the engine reports it.
            with contextlib.suppress(OSError), file.open("rb", buffering=0) as content:
                while content.readinto(block):
                    pass


def fixed_files(directory: Path) -> list[str]:
    """The constant files of a shard: all that the engine does not rewrite when it opens it."""
    shard = directory / "shard"
    files = (path for path in shard.rglob("*") if path.is_file())
    names = (str(path.relative_to(shard)) for path in sorted(files) if path.name not in _REWRITTEN)
    return [name for name in names if not name.startswith("wal/")]


def checksum(file: Path) -> list[int]:
    """The size and the CRC-32 of a file."""
    value = size = 0
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            value, size = zlib.crc32(block, value), size + len(block)
    return [size, value]
