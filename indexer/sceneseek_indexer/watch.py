"""Indexes folders again whenever they have changed.

A file that is still being written waits: an image is indexed once its size and time of change were the same at two
looks. Pictures that a service puts into a folder or deletes from it (`sceneseek.pending_changes`) are whole, and
indexed as soon as they are noticed. An error is reported and the run repeated: at the next look if the index could not
be written, else after the next change of the folders.
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

Looks = dict[tuple[str, str], tuple[int, int, int]]
"""By folder and path below it: size and times of change."""
_Changes = dict[tuple[str, str], Change]
"""By folder and path below it: what was put there or deleted, and no run has followed."""

# How often pending changes are looked for, in seconds: a listing of a small folder.
_NOTICE_SECONDS = 0.1


@dataclass
class Watch:
    """Looks at folders and runs the indexer when they have changed.

    Attributes:
        folders: the folders to look at.
        bundle: the bundle whose image graph encodes.
        store: the store of the generations.
        options: of each run.
        on_error: called with each new error, in one line.
        on_report: called with the report of every run.
        before_publishing: called just before a run makes its generation live.
    """

    folders: Sequence[Folder]
    bundle: Bundle
    store: VectorStore
    options: BuildOptions
    on_error: Callable[[str], None]
    on_report: Callable[[IndexReport], None]
    before_publishing: Callable[[], None] = lambda: None
    _seen: Looks | None = field(default=None, init=False)
    _indexed: Looks = field(default_factory=dict, init=False)
    _last_error: str = field(default="", init=False)
    # The version of the pending changes when they were last read, and that with which the last run failed, if it did.
    _version: object = field(default=None, init=False)
    _failed: object = field(default=None, init=False)

    def look(self) -> None:
        """Compare the folders with the last look, and run if something has changed and is stable since."""
        with self._reporting_errors():
            changes = self._open_changes()
            now = self._look()
            before, self._seen = self._seen, now
            moving = {at for at in self._unknown(now) if before is None or before.get(at) != now[at]} - changes.keys()
            resting = {at: facts for at, facts in now.items() if at not in moving}
            done = {at: facts for at, facts in self._indexed.items() if at not in moving}
            if self._are_due(changes) or (before is not None and resting != done):
                self._run(resting, moving)

    def rest(self, seconds: float, between: Callable[[], object] = lambda: None) -> None:
        """Wait so many seconds, and follow pending changes meanwhile; `between` is called after each run."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._present_version() == self._version:
                time.sleep(min(left, _NOTICE_SECONDS))
            else:
                self._follow_changes()
                between()

    def _follow_changes(self) -> None:
        """Run for pending changes alone: whether other files are at rest is for two looks to say."""
        with self._reporting_errors():
            changes = self._open_changes()
            if self._are_due(changes):
                now = self._look()
                moving = self._unknown(now) - changes.keys()
                self._run({at: facts for at, facts in now.items() if at not in moving}, moving)

    def _unknown(self, now: Looks) -> set[tuple[str, str]]:
        """The files that are not as the last run left them."""
        return {at for at, facts in now.items() if self._indexed.get(at) != facts}

    def _are_due(self, changes: _Changes) -> bool:
        """Whether there are changes, others than those with which the last run failed."""
        return bool(changes) and self._version != self._failed

    def _present_version(self) -> object:
        return [pending.version() for pending in self._pending()]

    def _open_changes(self) -> _Changes:
        self._version = self._present_version()
        return {
            (str(pending.folder), change.path): change
            for pending in self._pending()
            for change in pending.all().values()
            if change.open
        }

    def _pending(self) -> list[PendingChanges]:
        return [PendingChanges(folder.path) for folder in self.folders if isinstance(folder.path, Path)]

    def _look(self) -> Looks:
        found: Looks = {}
        for folder in self.folders:
            root = str(folder.path.resolve())
            for file in list_images(folder.path, self.options.patterns, 0, takes_pictures(folder.path)).files:
                found[root, file.relative] = (file.bytes, file.mtime_ns, file.ctime_ns)
        return found

    def _run(self, resting: Looks, moving: set[tuple[str, str]]) -> None:
        withheld: dict[str, set[str]] = {}
        for root, relative in moving:
            withheld.setdefault(root, set()).add(relative)
        try:
            report = index_folders(
                self.folders, self.bundle, self.store, self.options, withheld, self.before_publishing
            )
        except IndexUnavailable:
            raise  # transient: the next look tries again
        except SceneseekError:
            self._indexed, self._failed = resting, self._version  # the same would fail again, so wait for a change
            raise
        # Folders are forgotten once: afterwards the index does not know them.
        self.options = replace(self.options, forget=())
        self._indexed, self._failed, self._last_error = resting, None, ""
        self.on_report(report)

    @contextlib.contextmanager
    def _reporting_errors(self) -> Iterator[None]:
        try:
            yield
        except (SceneseekError, OSError) as error:
            if str(error) != self._last_error:
                self.on_error(str(error))
            self._last_error = str(error)
