"""The patterns that exclude files and folders by name.

The first of these with a matching pattern decides: the patterns of the run, the `.sceneseekignore` files from the
file's folder up to the root, the default exclusions. All use the syntax of .gitignore, and as in git, files in an
excluded folder cannot be included again. A folder that contains a `.nomedia`, a convention of Android, is excluded with
its subfolders.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from sceneseek.errors import InvalidRequest, SourceAway, SourceError
from sceneseek.payload import composed
from sceneseek.sources import Root, open_file

IGNORE_FILE, NO_MEDIA = ".sceneseekignore", ".nomedia"
_LONGEST_IGNORE_FILE = 2**20
NO_DEFAULTS = "--no-default-excludes"

# Folders of thumbnails, deleted files and snapshots: patterns for lower-case paths. Hidden folders, such as .Trash-1000
# and .snapshots, are ignored anyway.
_DEFAULTS = GitIgnoreSpec.from_lines(
    r"""
    # Synology, QNAP, Asustor, Buffalo
    @eadir/
    @tmp/
    @sharebin/
    @sharesnap/
    \#recycle/
    \#snapshot/
    @recycle/
    @recently-snapshot/
    @__thumb/
    @transcode/
    trashbox/
    # Windows
    $recycle.bin/
    recycler/
    recycled/
    system volume information/
    found.[0-9][0-9][0-9]/
    # Linux, Android, Samba, NetApp
    lost+found/
    lost.dir/
    @snapshots/
    @gmt-*/
    ~snapshot/
    # macOS
    __macosx/
    backups.backupdb/
    network trash folder/
    temporary items/
    **/*.photoslibrary/resources/
    **/*.photoslibrary/scopes/
    **/*.photolibrary/thumbnails/
    **/*.photolibrary/previews/
    **/*.aplibrary/thumbnails/
    **/*.aplibrary/previews/
    # Nextcloud, Lightroom, Sony's cameras
    appdata_*/
    files_trashbin/
    files_versions/
    *.lrdata/
    thmbnl/
    """.replace("    ", "").splitlines()
)


class Exclusion(NamedTuple):
    """Why a file or folder is excluded: `reason` is a short stable word, `what` a clause for messages."""

    reason: str
    what: str


BY_PATTERN = Exclusion("excluded", "excluded by a pattern")
BY_DEFAULT = Exclusion("excluded-by-default", "a folder of thumbnails, deleted files or snapshots by its name")
BY_NO_MEDIA = Exclusion("no-media", f"the folder contains {NO_MEDIA}")
EXCLUDED = frozenset({BY_PATTERN.reason, BY_DEFAULT.reason, BY_NO_MEDIA.reason})


class IgnoreFile:
    """The patterns of the `.sceneseekignore` in a folder below `root`; `folder` is empty or ends with a slash.

    Raises:
        SourceError: it cannot be read, or a line is not a valid pattern.
    """

    def __init__(self, root: Root, folder: str) -> None:
        path = f"{root}/{folder}{IGNORE_FILE}"
        try:
            lines = [line.rstrip("\r") for line in composed(_read_small(root, f"{folder}{IGNORE_FILE}")).split("\n")]
        except (OSError, SourceAway) as error:
            why = error.strerror if isinstance(error, OSError) else error.why
            raise SourceError(f"{path} cannot be read ({why})", "check its permissions and size") from error
        for number, line in enumerate(lines, 1):
            try:
                GitIgnoreSpec.from_lines([line])
            except GitIgnorePatternError:
                what = f"{path}:{number}: {line!r} is not a pattern"
                raise SourceError(what, "use the syntax of .gitignore") from None
        self._folder, self._spec = composed(folder), GitIgnoreSpec.from_lines(lines)
        self._by_file = Exclusion("excluded", f"excluded by {folder}{IGNORE_FILE}")

    def check(self, path: str) -> tuple[bool | None, Exclusion]:
        """Whether a pattern of this file excludes (True) or includes (False) a path; None if none matches.

        `path` is relative to the root, in composed form.
        """
        return self._spec.check_file(path.removeprefix(self._folder)).include, self._by_file


class Patterns:
    """The `include` and `exclude` patterns of a run, and whether the default exclusions and `.nomedia` apply.

    Names are compared in Unicode's composed form: macOS stores them decomposed, and people type them composed.

    Raises:
        InvalidRequest: one of them is not a valid pattern.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = (), defaults: bool = True) -> None:
        self._include = _spec(include) if include else None
        self._exclude = _spec(exclude)
        self._defaults = defaults

    def excludes_content(self, names: Iterable[str]) -> bool:
        """Whether a folder with entries of these names is excluded by a `.nomedia`."""
        return self._defaults and NO_MEDIA in names

    def exclusion(self, relative: str, ignore_files: Sequence[IgnoreFile] = ()) -> Exclusion | None:
        """Why a file, or a folder if its path ends with a slash, is excluded; None if it is not.

        `ignore_files` are those of its folder and the folders above it, from the root down.
        """
        path = composed(relative)
        verdicts = [(self._exclude.check_file(path).include, BY_PATTERN)] if self._exclude else []
        verdicts += [ignore_file.check(path) for ignore_file in reversed(ignore_files)]
        if self._defaults and path.endswith("/"):
            verdicts.append((_DEFAULTS.check_file(path.lower()).include, BY_DEFAULT))
        excluded, why = next((verdict for verdict in verdicts if verdict[0] is not None), (False, BY_PATTERN))
        if not excluded and self._include is not None and not path.endswith("/"):
            excluded, why = not self._include.match_file(path), BY_PATTERN
        return why if excluded else None


def _spec(patterns: Sequence[str]) -> GitIgnoreSpec:
    for pattern in patterns:
        try:
            usable = any(part.include is not None for part in GitIgnoreSpec.from_lines([pattern]).patterns)
        except GitIgnorePatternError:
            usable = False
        if not usable:
            hint = "use the syntax of .gitignore, such as '*.png' or 'raw/'"
            raise InvalidRequest(f"{pattern!r} is not a pattern", hint)
    return GitIgnoreSpec.from_lines(map(composed, patterns))


def _read_small(root: Root, relative: str) -> str:
    """The text of a regular file of at most `_LONGEST_IGNORE_FILE` bytes; links are not followed."""
    if not isinstance(root, Path):
        file, facts = open_file(root, relative)
        if facts.bytes > _LONGEST_IGNORE_FILE:
            raise OSError(0, f"larger than {_LONGEST_IGNORE_FILE:,} bytes")
        with file:
            return file.read().decode("utf-8-sig", "surrogateescape")
    handle = os.open(root / relative, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a file")
        if status.st_size > _LONGEST_IGNORE_FILE:
            raise OSError(0, f"larger than {_LONGEST_IGNORE_FILE:,} bytes")
        content = os.read(handle, _LONGEST_IGNORE_FILE)
    finally:
        os.close(handle)
    return content.decode("utf-8-sig", "surrogateescape")
