"""Indexes folders again whenever they have changed.

A file that is still being written waits: an image is indexed once its size and time of change were the same at two
looks. An error is reported and the run repeated: at the next look if the index could not be written, else after the
next change of the folders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sceneseek.bundle import Bundle
from sceneseek.errors import IndexUnavailable, SceneseekError
from sceneseek.store import VectorStore
from sceneseek_indexer.build import index_folders
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.report import IndexReport
from sceneseek_indexer.source_scan import Folder
from sceneseek_indexer.walk import list_images

Looks = dict[tuple[str, str], tuple[int, int, int]]
"""By folder and path below it: size and times of change."""


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

    def look(self) -> None:
        """Compare the folders with the last look, and run if something has changed and is stable since."""
        try:
            now = self._look()
            before, self._seen = self._seen, now
            if before is None:
                return
            moving = {at for at, facts in now.items() if before.get(at) != facts}
            resting = {at: facts for at, facts in now.items() if at not in moving}
            done = {at: facts for at, facts in self._indexed.items() if at not in moving}
            if resting != done:
                self._run(resting, moving)
        except (SceneseekError, OSError) as error:
            self._report_error(str(error))

    def _look(self) -> Looks:
        found: Looks = {}
        for folder in self.folders:
            root = str(folder.path.resolve())
            for file in list_images(folder.path, self.options.patterns).files:
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
            self._indexed = resting  # the same files would fail again, so wait for a change
            raise
        # Folders are forgotten once: afterwards the index does not know them.
        self.options = replace(self.options, forget=())
        self._indexed, self._last_error = resting, ""
        self.on_report(report)

    def _report_error(self, message: str) -> None:
        if message != self._last_error:
            self.on_error(message)
        self._last_error = message
