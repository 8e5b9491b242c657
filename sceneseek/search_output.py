"""The output of `sceneseek search`: prints the results, and copies, links or opens their files."""

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
        """The path of the file, or its URL ``s3://...``.

        Raises:
            NotFound: the service hides paths, or the image is not indexed any more.
        """

    def copy(self, result: Result, target: Path) -> None:
        """Copy the file.

        Raises:
            OSError, NotFound, SourceAway: the file does not exist, or cannot be written.
        """

    def address(self, result: Result) -> str:
        """The path or URL to open in an image viewer.

        Raises:
            NotFound: there is none, see `local`.
        """

    def thumbnail(self, result: Result) -> Image:
        """The picture, scaled down to a few hundred pixels.

        Raises:
            ImageError, NotFound, OSError: the picture cannot be read.
        """


@dataclass(frozen=True)
class Output:
    """The output options.

    Attributes:
        paths: print the paths of results and nothing else.
        null: end each path with a null byte instead of a newline.
        copy_to: copy the files to this directory.
        link_to: create links to the files in this directory.
        open: open each file in the desktop's default program.
        preview: show each picture below its line, if the output is a terminal.
    """

    paths: bool = False
    null: bool = False
    copy_to: Path | None = None
    link_to: Path | None = None
    open: bool = False
    preview: bool = False

    def previews(self, files: Files) -> Callable[[Result], None] | None:
        """A function that shows the picture of a result in the terminal; None without --preview or a terminal.

        Raises:
            MissingExtra: the preview library is not installed.
        """
        if not self.preview or self.paths or not sys.stdout.isatty():
            return None
        try:
            # On import, the library queries the terminal's capabilities.
            from rich.console import Console  # noqa: PLC0415
            from textual_image.renderable import Image as Preview  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise MissingExtra("search --preview", "preview", str(error.name)) from None
        console = Console()

        def show(result: Result) -> None:
            try:
                console.print(Preview(files.thumbnail(result), height=_PREVIEW_LINES, width="auto"))
            # A failed preview must not fail the listing; the library divides by the terminal size, which may be 0.
            except (SceneseekError, OSError, ZeroDivisionError) as error:
                click.echo(f"    no preview: {one_line(str(error))}", err=True)

        return show

    def process_files(self, answer: Answer, files: Files) -> None:
        """Print the paths, and copy, link or open the files of an answer, according to the options.

        Raises:
            SourceError: a file cannot be copied, linked or opened.
        """
        if self.paths:
            end = b"\0" if self.null else b"\n"
            for result in answer.results:
                sys.stdout.buffer.write(os.fsencode(files.path(result)) + end)
            sys.stdout.buffer.flush()
        if self.copy_to is not None:
            _add_files(self.copy_to, answer, files.copy, "copied")
        if self.link_to is not None:
            _add_files(
                self.link_to,
                answer,
                lambda result, target: _link(target, files.path(result)),
                "linked",
            )
        if self.open:
            for result in answer.results:
                address = files.address(result)
                if click.launch(address):
                    raise SourceError(f"no program opened {one_line(address)}", "open it manually, see --paths")


def local(path: str) -> str:
    """Return a local path unchanged.

    Raises:
        NotFound: it is the URL of an object, which cannot be linked or opened in desktop programs.
    """
    if path.startswith(SCHEME):
        raise NotFound(f"{one_line(path)} is in an object store", "copy the files with --copy-to")
    return path


def _link(target: Path, path: str) -> None:
    target.symlink_to(Path(local(path)).absolute())


def _add_files(directory: Path, answer: Answer, add: Callable[[Result, Path], None], done: str) -> None:
    """Add the file of each result to a directory, under its name; existing files are not replaced."""
    added = 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for result in answer.results:
            temporary = directory / f".{result.id}.part"
            temporary.unlink(missing_ok=True)
            try:
                add(result, temporary)
                name = PurePosixPath(result.path or f"{result.id}.{result.format.lower()}").name
                added += _rename_free(temporary, directory, name)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        what = f"{error.filename or directory} cannot be written or read ({error.strerror or error})"
        hint = f"{added} files were {done} before the error; free some space, or choose another directory"
        raise SourceError(what, hint) from error
    existing = f", {len(answer.results) - added} already existed" if added < len(answer.results) else ""
    click.echo(f"{done} {added} {'file' if added == 1 else 'files'} to {directory}{existing}", err=True)


def _rename_free(temporary: Path, directory: Path, name: str) -> bool:
    """Rename a file to the first free of ``name.jpg``, ``name (2).jpg`` ...; False if one of these is identical."""
    number, target = 1, directory / name
    while target.exists() or target.is_symlink():
        if _identical(temporary, target):
            return False
        number += 1
        target = directory / f"{Path(name).stem} ({number}){Path(name).suffix}"
    temporary.rename(target)
    return True


def _identical(first: Path, second: Path) -> bool:
    """Whether both are links with the same target, or files with the same content."""
    if first.is_symlink() or second.is_symlink():
        return first.is_symlink() and second.is_symlink() and first.readlink() == second.readlink()
    return second.is_file() and filecmp.cmp(first, second, shallow=False)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of an `Output`, passed to the command as `output`."""

    @click.option("--paths", is_flag=True, help="Print only the paths of the files, one per line.")
    @click.option("-0", "--null", is_flag=True, help="With --paths: end each path with a null byte, for xargs -0.")
    @click.option(
        "--copy-to",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Copy the files to this directory; existing files are not replaced.",
    )
    @click.option(
        "--link-to",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Create links to the files in this directory; existing files are not replaced.",
    )
    @click.option("--preview", is_flag=True, help="Show the pictures in the terminal; needs the extra preview.")
    @click.option("--open", is_flag=True, help="Open each file in the desktop's default program.")
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
            raise click.UsageError("-0 requires --paths")
        if link_to is not None and others["url"] is not None:
            raise click.UsageError("--link-to cannot be used with --url: use --copy-to")
        return command(output=Output(paths, null, copy_to, link_to, open, preview), **others)

    return with_output


def listing(
    answer: Answer,
    by_similarity: bool = False,
    keep_duplicates: bool = False,
    preview: Callable[[Result], None] | None = None,
) -> None:
    """Print rank, score (or similarity, if results are ordered by it) and name of each result.

    A line on standard error separates matches from other results. `preview` shows the picture of each result.
    """
    boundary = _boundary(answer)
    for number, result in enumerate(answer.results):
        if number == boundary:
            click.echo("other results:", err=True)
        for line in lines(result, by_similarity, keep_duplicates):
            click.echo(line)
        if preview is not None:
            preview(result)


def _boundary(answer: Answer) -> int | None:
    """The index of the first result that does not match; None if matches do not precede all others."""
    marks = [result.match for result in answer.results]
    matching = marks.count(True)
    return matching if matching and marks == [True] * matching + [False] * (len(marks) - matching) else None


def lines(result: Result, by_similarity: bool = False, keep_duplicates: bool = False) -> Iterator[str]:
    """Yield the printed lines of a result."""
    value = result.similarity if by_similarity or result.score is None else result.score
    folded = f"  (+{result.duplicates} similar)" if result.duplicates and not keep_duplicates else ""
    text = f'  "{_shortened(result.text)}"' if result.text and result.text_match else ""
    yield f"{result.rank:2d}  {value:.2f}  {_name(result)}{folded}{text}"
    if result.explanation is not None:
        yield f"    {_explained(result.explanation)}"


def remarks(answer: Answer) -> tuple[list[str], list[str]]:
    """Remarks to print before and after the results."""
    before, after = [], []
    if not answer.results:
        no_match = "nothing matches well: the nearest are shown without --sort and --min-score"
        before.append(no_match if answer.match is False and answer.shortlist else "nothing was found")
    elif answer.match is False:
        before.append("nothing matches well; the nearest are:")
    if not answer.calibrated and answer.query is not None:
        after.append("note: the scores are not calibrated: read them as an order only")
    if answer.truncated:
        after.append("note: the query exceeds the limit of the text tower; its end was ignored")
    after += [f"note: {one_line(hint.text)}" for hint in answer.hints]
    return before, after


def _name(result: Result) -> str:
    """The path, or if a service hides paths the title, or the id; escaped, since a service may send anything."""
    title = result.metadata.get("title")
    return one_line(result.path or (title if isinstance(title, str) else "") or result.id)


def _shortened(text: str) -> str:
    """The text recognized in a picture, on one line."""
    line = one_line(" / ".join(text.splitlines()))
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 3] + "..."


def _explained(explanation: Explanation) -> str:
    similarities = [("text", explanation.text_similarity), ("image", explanation.image_similarity)]
    parts = [f"{similarity:.2f} to the {what}" for what, similarity in similarities if similarity is not None]
    return f"neighbour {explanation.rank_before}; similarity {', '.join(parts)}"
