"""The image files of a folder in a fixed order, and the files that are skipped or ignored, with the reason.

A file is listed as an image if its name has an extension of one; its content is read later. Patterns choose among the
names. Hidden files and folders are ignored (thumbnail caches, AppleDouble forks). Links are followed to files inside
the folder only, so the index never contains files from elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from sceneseek.errors import InvalidRequest, SourceError
from sceneseek.payload import composed
from sceneseek.picture import UNSUPPORTED, extensions, lacking_plugins


class Patterns:
    """The `include` and `exclude` patterns of a run, which compare names in Unicode's composed form.

    Raises:
        InvalidRequest: one of them is not a pattern.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = _spec(include) if include else None
        self._exclude = _spec(exclude) if exclude else None

    def wants(self, relative: str) -> bool:
        """Whether the file at this path is to be indexed."""
        if self._exclude is not None and self._exclude.match_file(composed(relative)):
            return False
        return self._include is None or self._include.match_file(composed(relative))

    def enters(self, relative: str) -> bool:
        """Whether the folder at this path may contain files to index."""
        return self._exclude is None or not self._exclude.match_file(composed(f"{relative}/"))


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec:
    for pattern in patterns:
        try:
            usable = any(part.include is not None for part in GitIgnoreSpec.from_lines([pattern]).patterns)
        except GitIgnorePatternError:
            usable = False
        if not usable:
            hint = "write one as in a .gitignore, such as '*.png' or 'raw/'"
            raise InvalidRequest(f"{pattern!r} is no pattern", hint)
    return GitIgnoreSpec.from_lines(map(composed, patterns))


# The reason of what may exist but could not be read: its images stay in the index.
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image by name: `relative` is its POSIX path below `folder`, surrogate-escaped where not UTF-8.

    `source` is the folder's number in the generation.
    """

    relative: str
    folder: Path
    bytes: int
    mtime_ns: int
    source: int = 0


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
        files: files with the name of an image.
        skipped: files with the name of an image that cannot be used, and folders that cannot be read.
        ignored: files of other kinds or unsupported formats, and what is hidden or excluded.
        withheld: paths of images that are left to a later run.
        empty: sub-folders without any file that is not hidden.
        mounts: sub-folders on another device than the folder above them; an empty path is the folder itself.
        away: folders whose images may exist although they are not listed; known after a comparison with the index.
    """

    files: list[ImageFile] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: list[Skipped] = field(default_factory=list)
    withheld: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    mounts: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)


def list_images(folder: Path, patterns: Patterns | None = None, source: int = 0) -> Listing:
    """The images below a folder, sorted by path.

    Args:
        folder: the folder.
        patterns: the files to list; None lists all.
        source: the folder's number in the generation.

    Raises:
        SourceError: it does not exist, is not a folder, cannot be read, or contains no image file.
    """
    try:
        root = folder.resolve(strict=True)
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise SourceError(f"there is no folder {folder}", "check the path") from None
    except NotADirectoryError:
        raise SourceError(f"{folder} is not a folder", "name the folder that contains the images") from None
    except OSError as error:
        raise SourceError(f"the folder {folder} cannot be read ({error.strerror})", "check its permissions") from error
    listing = _Walk(root, patterns or Patterns(), source).over(entries)
    if not listing.files and not listing.skipped:
        if not listing.ignored:
            raise SourceError(f"the folder {folder} is empty", "name a folder that contains images")
        if any(entry.reason == "excluded" for entry in listing.ignored):
            raise SourceError(f"the patterns leave no image of the folder {folder}", "check --include and --exclude")
        kinds = ", ".join(sorted(extension[1:] for extension in extensions()))
        others = f"{len(listing.ignored):,} other files"
        if unsupported := count_unsupported(listing.ignored):
            others += f", {in_words(unsupported)}"
        raise SourceError(f"the folder {folder} contains no images ({others})", f"images end in {kinds}")
    return listing


def count_unsupported(ignored: Iterable[Skipped]) -> dict[str, int]:
    """How many pictures of formats that are not supported there are, by the ends of their names, most first."""
    endings = (PurePosixPath(entry.relative).suffix.lower() for entry in ignored if entry.reason == "unsupported")
    return dict(Counter(endings).most_common())


def in_words(unsupported: dict[str, int]) -> str:
    """Such as ``12 .cr3, 3 .jxl: not supported``."""
    return ", ".join(f"{count:,} {ending}" for ending, count in unsupported.items()) + ": not supported"


def above(relative: str) -> Iterator[str]:
    """The folders above a path, from the nearest one; the last one is an empty path."""
    while relative:
        relative = relative.rpartition("/")[0]
        yield relative


class _Walk:
    """One walk through a folder."""

    def __init__(self, root: Path, patterns: Patterns, source: int) -> None:
        self._root, self._patterns, self._source = root, patterns, source
        self._known, self._lacking = extensions(), lacking_plugins()
        self._listing = Listing()
        self._devices = {"": root.stat().st_dev}
        if root.parent.stat().st_dev != self._devices[""]:
            self._listing.mounts.add("")

    def over(self, entries: list[os.DirEntry[str]]) -> Listing:
        # An explicit stack: folders may be nested deeper than the limit of recursion.
        waiting = [(entry, "") for entry in reversed(entries)]
        while waiting:
            entry, parent = waiting.pop()
            relative = f"{parent}{entry.name}"
            if entry.name.startswith("."):
                self._ignore(relative, "hidden", "hidden")
            elif entry.is_dir(follow_symlinks=False):
                waiting += [(child, f"{relative}/") for child in reversed(self._children(entry, relative))]
            else:
                self._listing.empty.difference_update(above(relative))
                self._visit(entry, relative)
        return self._listing

    def _ignore(self, relative: str, reason: str, what: str) -> None:
        self._listing.ignored.append(Skipped(relative, reason, what, self._source))

    def _skip(self, relative: str, reason: str, what: str) -> None:
        self._listing.skipped.append(Skipped(relative, reason, what, self._source))

    def _children(self, entry: os.DirEntry[str], relative: str) -> list[os.DirEntry[str]]:
        if not self._patterns.enters(relative):
            self._listing.empty.difference_update(above(relative))
            self._ignore(relative, "excluded", "excluded by a pattern")
            return []
        try:
            device = entry.stat(follow_symlinks=False).st_dev
            children = sorted(os.scandir(entry.path), key=lambda child: child.name)
        except OSError as error:
            self._listing.empty.difference_update(above(relative))
            self._skip(relative, UNREADABLE, f"the folder cannot be read ({error.strerror})")
            return []
        self._devices[relative] = device
        if device != self._devices[relative.rpartition("/")[0]]:
            self._listing.mounts.add(relative)
        self._listing.empty.add(relative)
        return children

    def _visit(self, entry: os.DirEntry[str], relative: str) -> None:
        extension = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - Path() of every file is slow
        if extension in UNSUPPORTED:
            self._ignore(relative, "unsupported", f"{extension} is not supported")
        elif extension not in self._known and extension not in self._lacking:
            self._ignore(relative, "other-kind", "not an image by its name")
        elif not self._patterns.wants(relative):
            self._ignore(relative, "excluded", "excluded by a pattern")
        elif extension in self._lacking:
            self._skip(relative, "no-plugin", self._lacking[extension])
        else:
            self._visit_image(entry, relative)

    def _visit_image(self, entry: os.DirEntry[str], relative: str) -> None:
        path = Path(entry.path)
        try:
            if entry.is_symlink() and not path.resolve(strict=True).is_relative_to(self._root):
                self._skip(relative, "link-out", "a link that leads out of the folder")
                return
            status = entry.stat()
        except FileNotFoundError:
            self._skip(relative, "dangling-link", "a link to nothing")
            return
        except (OSError, RuntimeError) as error:  # RuntimeError: pathlib raises it for a loop of links
            self._skip(relative, UNREADABLE, f"cannot be read ({error})")
            return
        if stat.S_ISREG(status.st_mode):
            self._listing.files.append(
                ImageFile(relative, self._root, status.st_size, status.st_mtime_ns, self._source)
            )
        else:
            self._skip(relative, "not-a-file", "neither a file nor a folder")
