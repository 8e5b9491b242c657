"""A folder's image files, in a fixed order, and what was passed over and why.

A file is an image by its name's extension; its content decides later. Hidden files and folders are
ignored (thumbnail caches, AppleDouble forks). Links are followed to files inside the folder only, so that
an index never serves what its owner did not put there.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from sceneseek.decode import EXTENSIONS
from sceneseek.errors import SourceError


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image by name: `relative` is its POSIX path below the folder, surrogate-escaped where not UTF-8."""

    relative: str
    path: Path
    bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not in the index: `reason` is a short stable word, `what` a clause for people."""

    relative: str
    reason: str
    what: str


@dataclass
class Listing:
    """What a folder holds: image files, those passed over with a reason, and how many others."""

    files: list[ImageFile] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    ignored: int = 0


def list_images(folder: Path) -> Listing:
    """The images below a folder, sorted by path.

    Raises:
        SourceError: it does not exist, is not a folder, cannot be read, or holds no image file.
    """
    listing = Listing()
    try:
        root = folder.resolve(strict=True)
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise SourceError(f"there is no folder {folder}", "check the path") from None
    except NotADirectoryError:
        raise SourceError(f"{folder} is not a folder", "name the folder that holds the images") from None
    except OSError as error:
        raise SourceError(f"the folder {folder} cannot be read ({error.strerror})", "check its permissions") from error
    # A stack of our own: a folder may be nested deeper than Python calls may.
    waiting = [(entry, "") for entry in reversed(entries)]
    while waiting:
        entry, parent = waiting.pop()
        relative = f"{parent}{entry.name}"
        if entry.name.startswith("."):
            listing.ignored += 1
        elif entry.is_dir(follow_symlinks=False):
            children = _children(entry, relative, listing)
            waiting += [(child, f"{relative}/") for child in reversed(children)]
        elif os.path.splitext(entry.name)[1].lower() not in EXTENSIONS:  # noqa: PTH122 - Path() of every file is slow
            listing.ignored += 1
        else:
            _visit_file(entry, relative, root, listing)
    if not listing.files and not listing.skipped:
        if listing.ignored == 0:
            raise SourceError(f"the folder {folder} is empty", "name a folder that holds images")
        kinds = ", ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise SourceError(
            f"the folder {folder} holds no images ({listing.ignored:,} other files)", f"images end in {kinds}"
        )
    return listing


def _children(entry: os.DirEntry[str], relative: str, listing: Listing) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(entry.path), key=lambda child: child.name)
    except OSError as error:
        listing.skipped.append(Skipped(relative, "unreadable", f"the folder cannot be read ({error.strerror})"))
        return []


def _visit_file(entry: os.DirEntry[str], relative: str, root: Path, listing: Listing) -> None:
    path = Path(entry.path)
    try:
        if entry.is_symlink() and not path.resolve(strict=True).is_relative_to(root):
            listing.skipped.append(Skipped(relative, "link-out", "a link that leads out of the folder"))
            return
        status = entry.stat()
    except FileNotFoundError:
        listing.skipped.append(Skipped(relative, "dangling-link", "a link to nothing"))
        return
    except (OSError, RuntimeError) as error:  # RuntimeError: pathlib's word for a loop of links
        listing.skipped.append(Skipped(relative, "unreadable", f"cannot be read ({error})"))
        return
    if stat.S_ISREG(status.st_mode):
        listing.files.append(ImageFile(relative, path, status.st_size, status.st_mtime_ns))
    else:
        listing.skipped.append(Skipped(relative, "not-a-file", "neither a file nor a folder"))
