"""What `sceneseek search` does with an answer: prints it, lists, copies, links or opens the files that were found."""

from __future__ import annotations

import filecmp
import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import click

from sceneseek.errors import MissingExtra, NotFound, SceneseekError, SourceError, one_line
from sceneseek.object_store import SCHEME

if TYPE_CHECKING:
    from PIL.Image import Image

    from sceneseek.api import Answer, Explanation, Result


_PREVIEW_LINES = 10
_LONGEST_TEXT = 60


class Files(Protocol):
    """The files of results."""

    def path(self, result: Result) -> str:
        """Where the file is: on this machine, or at a URL ``s3://...``.

        Raises:
            NotFound: it is on another machine, or the image is not indexed any more.
        """

    def copy(self, result: Result, target: Path) -> None:
        """Copy the file.

        Raises:
            OSError, NotFound, SourceAway: it is not there, or cannot be written.
        """

    def address(self, result: Result) -> str:
        """What a program that shows pictures can open: a path or a URL.

        Raises:
            NotFound: no program can, see `local`.
        """

    def thumbnail(self, result: Result) -> Image:
        """The picture in some hundred pixels.

        Raises:
            ImageError, NotFound, OSError: it cannot be read.
        """


@dataclass(frozen=True)
class Output:
    """What becomes of the results, beside or in place of a listing.

    Attributes:
        paths: print their paths and nothing else.
        null: end each with a null byte in place of a new line.
        copy_to: copy their files to this directory.
        link_to: make links to their files in this directory.
        open: open each with the program that the desktop has for it.
        preview: show each below its line, if the output is a terminal.
    """

    paths: bool = False
    null: bool = False
    copy_to: Path | None = None
    link_to: Path | None = None
    open: bool = False
    preview: bool = False

    def previews(self, files: Files) -> Callable[[Result], None] | None:
        """What shows the picture of a result in the terminal; None where none is wanted, or there is no terminal.

        Raises:
            MissingExtra: the library that draws them is not installed.
        """
        if not self.preview or self.paths or not sys.stdout.isatty():
            return None
        try:
            # The library asks the terminal what it can, as it is imported.
            from rich.console import Console  # noqa: PLC0415
            from textual_image.renderable import Image as Preview  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingExtra("search --preview", "preview", str(error.name)) from None
        console = Console()

        def show(result: Result) -> None:
            try:
                console.print(Preview(files.thumbnail(result), height=_PREVIEW_LINES, width="auto"))
            # A preview is not worth the listing; the library divides by the size of a terminal that has none.
            except (SceneseekError, OSError, ZeroDivisionError) as error:
                click.echo(f"    no preview: {one_line(str(error))}", err=True)

        return show

    def of_files(self, answer: Answer, files: Files) -> None:
        """Do what is asked for with the files of an answer.

        Raises:
            SourceError: a file cannot be copied, linked or opened.
        """
        if self.paths:
            end = b"\0" if self.null else b"\n"
            for result in answer.results:
                sys.stdout.buffer.write(os.fsencode(files.path(result)) + end)
            sys.stdout.buffer.flush()
        if self.copy_to is not None:
            _each_into(self.copy_to, answer, files.copy, "copied")
        if self.link_to is not None:
            _each_into(
                self.link_to,
                answer,
                lambda result, to: _link(to, files.path(result)),
                "linked",
            )
        if self.open:
            for result in answer.results:
                address = files.address(result)
                if click.launch(address):
                    raise SourceError(f"no program opened {one_line(address)}", "open it by hand, see --paths")


def local(path: str) -> str:
    """The path of a file of this machine.

    Raises:
        NotFound: it is a URL of an object store, which neither links nor programs of the desktop lead to.
    """
    if path.startswith(SCHEME):
        raise NotFound(f"{one_line(path)} is in an object store", "copy the files with --copy-to")
    return path


def _link(place: Path, path: str) -> None:
    place.symlink_to(Path(local(path)).absolute())


def _each_into(directory: Path, answer: Answer, put: Callable[[Result, Path], None], done: str) -> None:
    """Put each result's file into a directory, under its own name; none that is there is replaced."""
    fresh = 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for result in answer.results:
            beside = directory / f".{result.id}.part"
            beside.unlink(missing_ok=True)
            try:
                put(result, beside)
                name = PurePosixPath(result.path or f"{result.id}.{result.format.lower()}").name
                fresh += _settle(beside, directory, name)
            finally:
                beside.unlink(missing_ok=True)
    except OSError as error:
        what = f"{error.filename or directory} cannot be written or read ({error.strerror or error})"
        raise SourceError(what, f"{fresh} files were {done} before; make room, or name another directory") from error
    there = f", {len(answer.results) - fresh} were there before" if fresh < len(answer.results) else ""
    click.echo(f"{done} {fresh} {'file' if fresh == 1 else 'files'} to {directory}{there}", err=True)


def _settle(beside: Path, directory: Path, name: str) -> bool:
    """Rename a new file to the first free of ``name.jpg``, ``name (2).jpg`` ...; False if one of these is the same."""
    number, target = 1, directory / name
    while target.exists() or target.is_symlink():
        if _same(beside, target):
            return False
        number += 1
        target = directory / f"{Path(name).stem} ({number}){Path(name).suffix}"
    beside.rename(target)
    return True


def _same(one: Path, other: Path) -> bool:
    """Whether two are links to the same place, or files of the same content."""
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of an `Output`, which the command gets as `output`."""

    @click.option("--paths", is_flag=True, help="Print the files' paths and nothing else, one a line.")
    @click.option("-0", "--null", is_flag=True, help="With --paths: a null byte after each, as for xargs -0.")
    @click.option(
        "--copy-to", type=click.Path(path_type=Path), metavar="DIR", help="Copy the files there; none is replaced."
    )
    @click.option("--link-to", type=click.Path(path_type=Path), metavar="DIR", help="Make links to the files there.")
    @click.option("--preview", is_flag=True, help="Show the pictures in the terminal; needs the extra preview.")
    @click.option("--open", is_flag=True, help="Open each with the program that the desktop has for pictures.")
    @functools.wraps(command)
    def with_output(
        paths: bool,
        null: bool,
        copy_to: Path | None,
        link_to: Path | None,
        open: bool,  # noqa: A002 - the option's name
        preview: bool,
        **others: Any,
    ) -> Any:
        if null and not paths:
            raise click.UsageError("-0 goes with --paths")
        if link_to is not None and others["url"] is not None:
            raise click.UsageError("--link-to does not go with --url: use --copy-to")
        return command(output=Output(paths, null, copy_to, link_to, open, preview), **others)

    return with_output


def listing(
    answer: Answer,
    by_similarity: bool = False,
    keep_duplicates: bool = False,
    preview: Callable[[Result], None] | None = None,
) -> None:
    """Print rank, score and name of each result; with an image its similarity, which is what the order is by.

    A line on standard error divides those that match from those after them. `preview` shows the picture of each.
    """
    boundary = _boundary(answer)
    for number, result in enumerate(answer.results):
        if number == boundary:
            click.echo("less like it:", err=True)
        for line in lines(result, by_similarity, keep_duplicates):
            click.echo(line)
        if preview is not None:
            preview(result)


def _boundary(answer: Answer) -> int | None:
    """How many results come before those that do not match; None where the two are not apart."""
    marks = [result.match for result in answer.results]
    found = marks.count(True)
    return found if found and marks == [True] * found + [False] * (len(marks) - found) else None


def lines(result: Result, by_similarity: bool = False, keep_duplicates: bool = False) -> Iterator[str]:
    """A result as it is printed."""
    value = result.similarity if by_similarity or result.score is None else result.score
    folded = f"  (+{result.duplicates} similar)" if result.duplicates and not keep_duplicates else ""
    text = f'  "{_shortened(result.text)}"' if result.text and result.text_match else ""
    yield f"{result.rank:2d}  {value:.2f}  {_name(result)}{folded}{text}"
    if result.explanation is not None:
        yield f"    {_explained(result.explanation)}"


def remarks(answer: Answer) -> tuple[list[str], list[str]]:
    """What is to be known before the results are read, and after."""
    before, after = [], []
    if not answer.results:
        said = "nothing matches well: the nearest are shown without --sort and --min-score"
        before.append(said if answer.match is False and answer.shortlist else "nothing was found")
    elif answer.match is False:
        before.append("nothing matches well; the nearest are:")
    if not answer.calibrated and answer.query is not None:
        after.append("note: the scores are not calibrated: read them as an order only")
    if answer.truncated:
        after.append("note: the query is longer than the text tower reads; its end was ignored")
    after += [f"note: {one_line(hint.text)}" for hint in answer.hints]
    return before, after


def _name(result: Result) -> str:
    """Its path, or where a service hides paths its title, or its id. Escaped: a service may send anything."""
    title = result.metadata.get("title")
    return one_line(result.path or (title if isinstance(title, str) else "") or result.id)


def _shortened(text: str) -> str:
    """What was read in a picture, on one line."""
    line = one_line(" / ".join(text.splitlines()))
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 3] + "..."


def _explained(explanation: Explanation) -> str:
    similarities = [("text", explanation.text_similarity), ("image", explanation.image_similarity)]
    parts = [f"{similarity:.2f} to the {what}" for what, similarity in similarities if similarity is not None]
    return f"neighbour {explanation.rank_before}; similarity {', '.join(parts)}"
