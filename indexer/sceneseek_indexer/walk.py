"""Lists the image files of a folder in a fixed order, and the skipped and ignored files with the reason.

A file is listed as an image by its extension; its content is read later. Hidden files and folders are ignored
(thumbnail caches, AppleDouble forks). Links are followed only to files inside the folder, so the index never contains
files from elsewhere. `patterns` excludes files by name.

The objects of a bucket are listed in one stream; the slashes in their keys separate folders.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Generic, NamedTuple, Protocol, TypeVar

from sceneseek.errors import SourceError
from sceneseek.local_folder import Facts
from sceneseek.object_store import ObjectFolder
from sceneseek.picture import UNSUPPORTED, extensions, lacking_plugins
from sceneseek.sources import Root
from sceneseek_indexer.patterns import (
    BY_DEFAULT,
    BY_NO_MEDIA,
    EXCLUDED,
    IGNORE_FILE,
    NO_DEFAULTS,
    NO_MEDIA,
    Exclusion,
    IgnoreFile,
    Patterns,
)
from sceneseek_indexer.temporary_database import Row, View, temporary_database

# The reason of files and folders that could not be read and may still exist: their images stay in the index.
UNREADABLE = "unreadable"
LINKED_FOLDER = "linked-folder"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file with the name of an image: `relative` is its POSIX path below `folder`, surrogate-escaped if not UTF-8.

    `source` is the folder's number in the generation.
    """

    relative: str
    folder: Root
    bytes: int
    mtime_ns: int
    source: int = 0
    ctime_ns: int = 0


Add = Callable[[ImageFile], None]
"""A callback for each file of a walk."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that is not indexed: `reason` is a short stable word, `what` a clause for messages."""

    relative: str
    reason: str
    what: str
    source: int = 0


@dataclass
class Listing:
    """The content of a folder.

    Attributes:
        files: files with the name of an image; empty if `list_images` passes them to a callback.
        skipped: files with the name of an image that cannot be used, and folders that cannot be read.
        ignored: files of other kinds or unsupported formats, links to folders, hidden and excluded files and folders.
        withheld: paths of images that are left to a later run.
        empty: subfolders that contain only hidden files, if any.
        mounts: subfolders on another device than their parents; an empty path is the folder itself.
        away: folders whose images may exist although they are not listed; set after a comparison with the index.
    """

    files: list[ImageFile] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: list[Skipped] = field(default_factory=list)
    withheld: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    mounts: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)


def list_images(
    folder: Root,
    patterns: Patterns | None = None,
    source: int = 0,
    may_be_empty: bool = False,
    add: Add | None = None,
) -> Listing:
    """List the images of a folder, sorted by path.

    Args:
        folder: the folder.
        patterns: which files to list; None applies the default exclusions only.
        source: the folder's number in the generation.
        may_be_empty: do not raise SourceError if it contains no image files.
        add: called with each file, which is then not added to the listing.

    Raises:
        SourceError: it does not exist, is not a folder, cannot be read, is excluded by its `.nomedia`, or contains no
            image file; or a `.sceneseekignore` is not valid.
        IndexUnavailable: the temporary database of a bucket's objects cannot be used.
    """
    patterns = patterns or Patterns()
    if isinstance(folder, ObjectFolder):
        with temporary_database(_OBJECTS) as database:
            objects = _ObjectWalk(folder, patterns, source, add, database)
            listing, found = objects.listing(objects.below("")), objects.found
    else:
        root, entries = _opened(folder)
        files = _FolderWalk(root, patterns, source, add)
        listing, found = files.listing(entries), files.found
    if not (found or listing.skipped or may_be_empty):
        if not listing.ignored:
            raise SourceError(f"the folder {folder} is empty", "choose a folder that contains images")
        if any(entry.reason in EXCLUDED for entry in listing.ignored):
            hint = f"check --include, --exclude and {IGNORE_FILE}, or pass {NO_DEFAULTS}"
            raise SourceError(f"the patterns exclude all images of the folder {folder}", hint)
        supported = ", ".join(sorted(extension[1:] for extension in extensions()))
        others = f"{len(listing.ignored):,} other files"
        if unsupported := count_unsupported(listing.ignored):
            others += f", {in_words(unsupported)}: not supported"
        raise SourceError(f"the folder {folder} contains no images ({others})", f"supported are {supported}")
    return listing


def _opened(folder: Path) -> tuple[Path, list[os.DirEntry[str]]]:
    try:
        root = folder.resolve(strict=True)
        return root, _entries(root)
    except FileNotFoundError:
        raise SourceError(f"there is no folder {folder}", "check the path") from None
    except NotADirectoryError:
        raise SourceError(f"{folder} is not a folder", "choose the folder that contains the images") from None
    except OSError as error:
        raise SourceError(f"the folder {folder} cannot be read ({error.strerror})", "check its permissions") from error


def count_unsupported(ignored: Iterable[Skipped]) -> dict[str, int]:
    """Count pictures in unsupported formats by extension, most frequent first."""
    endings = (PurePosixPath(entry.relative).suffix.lower() for entry in ignored if entry.reason == "unsupported")
    return dict(Counter(endings).most_common())


def count_default_exclusions(ignored: Iterable[Skipped]) -> dict[str, int]:
    """Count folders that are excluded by default, by name or `.nomedia`, most frequent first."""
    found = [PurePosixPath(entry.relative).name for entry in ignored if entry.reason == BY_DEFAULT.reason]
    found += [NO_MEDIA for entry in ignored if entry.reason == BY_NO_MEDIA.reason]
    return dict(Counter(found).most_common())


def in_words(counts: dict[str, int]) -> str:
    """Format counts, such as ``12 .cr3, 3 .jxl``."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def above(relative: str) -> Iterator[str]:
    """Yield the folders above a path, nearest first; the last is an empty path."""
    while relative:
        relative = relative.rpartition("/")[0]
        yield relative


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    return sorted(os.scandir(folder), key=attrgetter("name"))


class _Entry(Protocol):
    """A file, a folder or a link in a folder; `os.DirEntry` is one."""

    @property
    def name(self) -> str: ...

    def is_dir(self) -> bool: ...

    def is_symlink(self) -> bool: ...


EntryT = TypeVar("EntryT", bound=_Entry)
RootT = TypeVar("RootT", Path, ObjectFolder)


class _Walk(Generic[RootT, EntryT]):
    """A walk through a folder, which decides by name. Subclasses read entries: `_children` and `_visit_image`.

    Attributes:
        found: whether the walk has found an image.
    """

    def __init__(self, root: RootT, patterns: Patterns, source: int, add: Add | None) -> None:
        self._root: RootT = root
        self._patterns, self._source = patterns, source
        self._known, self._lacking = extensions(), lacking_plugins()
        self._listing, self.found = Listing(), False
        self._add_file = add or self._listing.files.append

    def _children(self, entry: EntryT, relative: str) -> Iterable[EntryT]:
        """The entries of a folder by name; none if it cannot be read or is excluded."""
        raise NotImplementedError

    def _visit_image(self, entry: EntryT, relative: str) -> None:
        """List or skip a file with the name of an image."""
        raise NotImplementedError

    def listing(self, entries: Iterable[EntryT]) -> Listing:
        if self._patterns.excludes_content(entry.name for entry in entries):
            hint = f"delete that file, or pass {NO_DEFAULTS}"
            raise SourceError(f"the folder {self._root} is excluded: it contains {NO_MEDIA}", hint)
        # An explicit stack, since folders may be nested deeper than the recursion limit.
        stack = [self._below("", entries, ())]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                continue
            entry, parent, ignore_files = following
            relative = f"{parent}{entry.name}"
            if entry.name.startswith("."):
                self._ignore(relative, Exclusion("hidden", "hidden"))
                continue
            folder = _is_folder(entry)
            excluded = self._patterns.exclusion(f"{relative}/", ignore_files) if folder else None
            if folder and not excluded and not entry.is_symlink():
                stack.append(self._below(f"{relative}/", self._children(entry, relative), ignore_files))
                continue
            if parent[:-1] in self._listing.empty:  # the first entry of its folder
                self._listing.empty.difference_update(above(relative))
            if not folder:
                self._visit(entry, relative, ignore_files)
            else:
                self._ignore(
                    relative, excluded or Exclusion(LINKED_FOLDER, "a link to a folder, which is not followed")
                )
        return self._listing

    def _below(
        self, folder: str, entries: Iterable[EntryT], ignore_files: tuple[IgnoreFile, ...]
    ) -> Iterator[tuple[EntryT, str, tuple[IgnoreFile, ...]]]:
        """The entries of a folder, with the ignore files that apply to them."""
        if any(entry.name == IGNORE_FILE for entry in entries):
            ignore_files = (*ignore_files, IgnoreFile(self._root, folder))
        return ((entry, folder, ignore_files) for entry in _consumed(entries))

    def _ignore(self, relative: str, why: Exclusion) -> None:
        self._listing.ignored.append(Skipped(relative, why.reason, why.what, self._source))

    def _add(self, relative: str, facts: Facts) -> None:
        self.found = True
        self._add_file(ImageFile(relative, self._root, facts.bytes, facts.mtime_ns, self._source, facts.ctime_ns))

    def _skip(self, relative: str, reason: str, what: str) -> None:
        self._listing.skipped.append(Skipped(relative, reason, what, self._source))

    def _visit(self, entry: EntryT, relative: str, ignore_files: tuple[IgnoreFile, ...]) -> None:
        extension = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - Path() of every file is slow
        if extension in UNSUPPORTED:
            self._ignore(relative, Exclusion("unsupported", f"{extension} is not supported"))
        elif extension not in self._known and extension not in self._lacking:
            self._ignore(relative, Exclusion("other-kind", "not an image by its name"))
        elif excluded := self._patterns.exclusion(relative, ignore_files):
            self._ignore(relative, excluded)
        elif extension in self._lacking:
            self._skip(relative, "no-plugin", self._lacking[extension])
        else:
            self._visit_image(entry, relative)


class _FolderWalk(_Walk[Path, os.DirEntry[str]]):
    """A walk through a local folder."""

    def __init__(self, root: Path, patterns: Patterns, source: int, add: Add | None) -> None:
        super().__init__(root, patterns, source, add)
        self._devices = {"": root.stat().st_dev}
        if root.parent.stat().st_dev != self._devices[""]:
            self._listing.mounts.add("")

    def _children(self, entry: os.DirEntry[str], relative: str) -> list[os.DirEntry[str]]:
        try:
            device = entry.stat(follow_symlinks=False).st_dev
            children = _entries(entry.path)
        except OSError as error:
            self._listing.empty.difference_update(above(relative))
            self._skip(relative, UNREADABLE, f"the folder cannot be read ({error.strerror})")
            return []
        if self._patterns.excludes_content(child.name for child in children):
            self._listing.empty.difference_update(above(relative))
            self._ignore(relative, BY_NO_MEDIA)
            return []
        self._devices[relative] = device
        if device != self._devices[relative.rpartition("/")[0]]:
            self._listing.mounts.add(relative)
        self._listing.empty.add(relative)
        return children

    def _visit_image(self, entry: os.DirEntry[str], relative: str) -> None:
        try:
            # Path() is slow, so it is only used for links.
            if entry.is_symlink() and not Path(entry.path).resolve(strict=True).is_relative_to(self._root):
                self._skip(relative, "link-out", "a link that leads out of the folder")
                return
            status = entry.stat()
        except FileNotFoundError:
            self._skip(relative, "dangling-link", "a broken link")
            return
        except (OSError, RuntimeError) as error:  # RuntimeError: pathlib raises it for a loop of links
            self._skip(relative, UNREADABLE, f"cannot be read ({error})")
            return
        if stat.S_ISREG(status.st_mode):
            self._add(relative, Facts.of(status))
        else:
            self._skip(relative, "not-a-file", "neither a file nor a folder")


class _Object(NamedTuple):
    """An object, or a folder in keys, which has no facts. Both may have the same name."""

    name: str
    facts: Facts | None

    def is_dir(self) -> bool:
        return self.facts is None

    def is_symlink(self) -> bool:
        return False


# `folder` ends in a slash, unless it is the root; folders have no facts.
_OBJECTS = """
CREATE TABLE object (folder, name, bytes INT, mtime_ns INT, ctime_ns INT);
CREATE UNIQUE INDEX folder_of ON object (folder, name) WHERE bytes IS NULL;
"""


class _ObjectWalk(_Walk[ObjectFolder, _Object]):
    """A walk through the objects of a bucket, which has no links, mount points or empty folders.

    The objects are stored in a temporary database, since they may not fit into memory.
    """

    def __init__(
        self, root: ObjectFolder, patterns: Patterns, source: int, add: Add | None, database: sqlite3.Connection
    ) -> None:
        super().__init__(root, patterns, source, add)
        self._database, before = database, ""
        for relative, facts in root.objects():
            above, slash, name = relative.rpartition("/")
            database.execute("INSERT INTO object VALUES (?, ?, ?, ?, ?)", (above + slash, name, *facts))
            if above != before:
                self._add_folder(above)
                before = above
        database.execute("CREATE INDEX object_of ON object (folder, name)")

    def _add_folder(self, relative: str) -> None:
        while relative:
            above, slash, name = relative.rpartition("/")
            self._database.execute("INSERT OR IGNORE INTO object (folder, name) VALUES (?, ?)", (above + slash, name))
            relative = above

    def below(self, folder: str) -> View[_Object]:
        """The entries of a folder by name, a folder before an object of the same name."""
        query = "SELECT name, bytes, mtime_ns, ctime_ns FROM object WHERE folder = ? ORDER BY name, bytes IS NOT NULL"
        return View(self._database, _as_object, query, (folder,))

    def _children(self, entry: _Object, relative: str) -> Iterable[_Object]:  # noqa: ARG002 - `relative` is sufficient
        children = self.below(f"{relative}/")
        if self._patterns.excludes_content(child.name for child in children):
            self._ignore(relative, BY_NO_MEDIA)
            return []
        return children

    def _visit_image(self, entry: _Object, relative: str) -> None:
        if entry.facts is not None:
            self._add(relative, entry.facts)


def _as_object(row: Row) -> _Object:
    name, *facts = row
    return _Object(name, None if None in facts else Facts(*facts))


def _consumed(entries: Iterable[EntryT]) -> Iterator[EntryT]:
    """Yield the entries; a list is emptied, since `os.DirEntry` caches results and so takes memory."""
    if isinstance(entries, list):
        entries.reverse()
        while entries:
            yield entries.pop()
    else:
        yield from entries


def _is_folder(entry: _Entry) -> bool:
    """Whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False
