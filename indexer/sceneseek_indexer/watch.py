"""Indexes folders again whenever they change.

An image is indexed once its size and times are the same in two checks, since it may still be written. Uploads and
deletions by a service (`sceneseek.pending_changes`) are atomic, and indexed as soon as they are detected. Errors are
reported, and the run is repeated: at the next check if the index was unavailable, else after the next change of the
folders.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sceneseek.bundle import Bundle
from sceneseek.errors import IndexUnavailable, SceneseekError
from sceneseek.pending_changes import Change, PendingChanges, takes_pictures
from sceneseek.store import VectorStore
from sceneseek_indexer.build import index_folders
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.source_scan import Folder
from sceneseek_indexer.walk import list_images

_Files = dict[tuple[str, str], tuple[int, int, int]]
"""Size, mtime and ctime of files, by folder and relative path."""
_Changes = dict[tuple[str, str], Change]
"""Open pending changes, by folder and relative path."""

# Seconds between checks for pending changes, which only list a small folder.
_CHANGES_SECONDS = 0.1


@dataclass
class Watch:
    """Checks folders, and runs the indexer when they have changed.

    Attributes:
        folders: the folders to watch.
        bundle: the bundle with the image graph.
        store: the vector store.
        options: of each run.
        on_error: called with each new error message, which is one line.
        on_report: called with the report of each run.
        before_publishing: called just before a run makes its generation live.
    """

    folders: Sequence[Folder]
    bundle: Bundle
    store: VectorStore
    options: BuildOptions
    on_error: Callable[[str], None]
    on_report: Callable[[IndexReport], None]
    before_publishing: Callable[[], None] = lambda: None
    _seen: _Files | None = field(default=None, init=False)
    _indexed: _Files = field(default_factory=dict, init=False)
    _last_error: str = field(default="", init=False)
    # The version of the pending changes when last read, and the one with which the last run failed, None if it did not.
    _version: object = field(default=None, init=False)
    _failed: object = field(default=None, init=False)

    def check(self) -> None:
        """Compare the folders with the last check, and run if there are changes that are stable since then."""
        with self._reporting_errors():
            changes = self._open_changes()
            files = self._list_files()
            before, self._seen = self._seen, files
            unstable = {
                key for key in self._changed(files) if before is None or before.get(key) != files[key]
            } - changes.keys()
            stable = {key: facts for key, facts in files.items() if key not in unstable}
            indexed = {key: facts for key, facts in self._indexed.items() if key not in unstable}
            if self._are_due(changes) or (before is not None and stable != indexed):
                self._run(stable, unstable)

    def wait(self, seconds: float, between: Callable[[], object] = lambda: None) -> None:
        """Wait, and index pending changes in the meantime; `between` is called after each of these runs."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._current_version() == self._version:
                time.sleep(min(left, _CHANGES_SECONDS))
            else:
                self._index_changes()
                between()

    def _index_changes(self) -> None:
        """Run if changes are pending, without other files that changed since the last run."""
        with self._reporting_errors():
            changes = self._open_changes()
            if self._are_due(changes):
                files = self._list_files()
                unstable = self._changed(files) - changes.keys()
                self._run({key: facts for key, facts in files.items() if key not in unstable}, unstable)

    def _changed(self, files: _Files) -> set[tuple[str, str]]:
        """The files that are new or changed since the last run."""
        return {key for key, facts in files.items() if self._indexed.get(key) != facts}

    def _are_due(self, changes: _Changes) -> bool:
        """Whether there are changes other than those with which the last run failed."""
        return bool(changes) and self._version != self._failed

    def _current_version(self) -> object:
        return [pending.version() for pending in self._pending()]

    def _open_changes(self) -> _Changes:
        self._version = self._current_version()
        return {
            (str(pending.folder), change.path): change
            for pending in self._pending()
            for change in pending.all().values()
            if change.open
        }

    def _pending(self) -> list[PendingChanges]:
        return [PendingChanges(folder.path) for folder in self.folders if isinstance(folder.path, Path)]

    def _list_files(self) -> _Files:
        found: _Files = {}
        for folder in self.folders:
            root = str(folder.path.resolve())
            for file in list_images(folder.path, self.options.patterns, 0, takes_pictures(folder.path)).files:
                found[root, file.relative] = (file.bytes, file.mtime_ns, file.ctime_ns)
        return found

    def _run(self, stable: _Files, unstable: set[tuple[str, str]]) -> None:
        withheld: dict[str, set[str]] = {}
        for root, relative in unstable:
            withheld.setdefault(root, set()).add(relative)
        try:
            report = index_folders(
                self.folders, self.bundle, self.store, self.options, withheld, self.before_publishing
            )
        except IndexUnavailable:
            raise  # transient: the next check tries again
        except SceneseekError:
            self._indexed, self._failed = stable, self._version  # a retry would fail again, so wait for a change
            raise
        # Folders are forgotten once: now they are no longer in the index.
        self.options = replace(self.options, forget=())
        self._indexed, self._failed, self._last_error = stable, None, ""
        self.on_report(report)

    @contextlib.contextmanager
    def _reporting_errors(self) -> Iterator[None]:
        try:
            yield
        except (SceneseekError, OSError) as error:
            if str(error) != self._last_error:
                self.on_error(str(error))
            self._last_error = str(error)
