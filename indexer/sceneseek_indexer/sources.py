"""Which folders a run reads, and under which number and label a generation knows them.

A folder that the index knows keeps its number and its label, so its images keep their ids. The first folder
has no label; a later one is labelled by its name, or as the user wrote it: LABEL=DIR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from sceneseek.errors import IndexUnavailable, InvalidRequest, SourceError
from sceneseek.store import Source, VectorStore


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that the user named, with the label that was given to it, if one was."""

    path: Path
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> Folder:
        """DIR or LABEL=DIR; what is a path as it stands is a path."""
        label, equals, path = text.partition("=")
        if equals and label and path and "/" not in label and not Path(text).exists():
            return cls(Path(path), label)
        return cls(Path(text))


@dataclass(frozen=True, slots=True)
class Sources:
    """A generation's sources: all of them, those that a run reads (folders by number), and those it forgets."""

    every: tuple[Source, ...]
    read: dict[int, Path]
    forgotten: frozenset[int] = frozenset()

    def untouched(self) -> list[Source]:
        """Those whose images stay as they are."""
        return [source for n, source in enumerate(self.every) if n not in self.read and n not in self.forgotten]


def every_folder(store: VectorStore) -> list[Folder]:
    """All folders of the live generation.

    Raises:
        IndexUnavailable: nothing is indexed there.
    """
    live = store.live()
    for info in store.generations():
        if info.name == live:
            return [Folder(Path(source.folder)) for source in info.sources]
    raise IndexUnavailable(f"nothing is indexed in {store.url}", "name the folders to index")


def join_sources(known: Sequence[Source], folders: Sequence[Folder], forget: Sequence[Path] = ()) -> Sources:
    """Give every named folder its number and label.

    Args:
        known: the sources of the generation that the run goes on from.
        folders: those to read.
        forget: folders whose images are to leave the index; their numbers are not given away.

    Raises:
        SourceError: folders lie in one another, so that an image would be indexed twice; or one to forget is unknown.
        InvalidRequest: a label is taken, or is another than the index knows.
    """
    every, read = list(known), {}
    forgotten = frozenset(_number(path, known) for path in forget)
    for folder in folders:
        resolved = str(folder.path.resolve())
        number = next((n for n, source in enumerate(every) if source.folder == resolved), None)
        if number in forgotten:
            raise InvalidRequest(f"{folder.path} is to be indexed and to be forgotten", "name it once")
        if number is None:
            _check_apart(resolved, [source for n, source in enumerate(every) if n not in forgotten])
            every.append(Source(_new_label(folder, every), resolved))
            number = len(every) - 1
        elif folder.label not in (None, every[number].label):
            name = every[number].label or "its first folder, without a label"
            raise InvalidRequest(f"the index knows {folder.path} as {name}", f"write {folder.path} alone")
        read[number] = folder.path
    return Sources(tuple(every), dict(sorted(read.items())), forgotten)


def _number(path: Path, known: Sequence[Source]) -> int:
    for number, source in enumerate(known):
        if source.folder in (str(path), str(path.resolve())):
            return number
    folders = ", ".join(source.folder for source in known) or "none"
    raise SourceError(f"the index knows no folder {path}", f"it knows {folders}")


def _new_label(folder: Folder, others: Sequence[Source]) -> str:
    taken = {source.label for source in others}
    if folder.label is not None:
        if folder.label in taken:
            raise InvalidRequest(f"the label {folder.label} is another folder's", "choose another")
        return folder.label
    if not others:
        return ""
    name = folder.path.resolve().name or "folder"
    return next(label for label in chain([name], _numbered(name)) if label not in taken)


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}-{i}" for i in count(2))


def _check_apart(folder: str, others: Sequence[Source]) -> None:
    for other in others:
        inner, outer = Path(folder), Path(other.folder)
        if inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise SourceError(
                f"of {folder} and {other.folder} one lies in the other, so images would be indexed twice",
                "name the outer one, or choose another --index",
            )
