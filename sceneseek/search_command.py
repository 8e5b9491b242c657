"""`sceneseek search`: search a local index, or a service over HTTP, with the same options and output."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import click
from click.core import ParameterSource

from sceneseek.errors import ImageError, KeyRefused, NotFound, SourceError
from sceneseek.options import (
    KEY_VARIABLE,
    bundle_option,
    device_option,
    index_option,
    json_option,
    key_file_option,
    max_pixels_option,
    read_key,
    threads_option,
    timeout_option,
)
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, DEFAULT_TEXT_WEIGHT, MAX_K, MAX_SHORTLIST
from sceneseek.search_output import Files, Output, listing, local, output_options, remarks

if TYPE_CHECKING:
    from PIL.Image import Image

    from sceneseek.api import Answer, Result
    from sceneseek.models import ModelRegistry
    from sceneseek.picture import Picture as Decoded
    from sceneseek.queries import Query
    from sceneseek.runtime import Device
    from sceneseek.terms import Picture

_LOCAL_OPTIONS = {
    "bundle": "--bundle",
    "index_url": "--index",
    "device": "--device",
    "threads": "--threads",
    "max_pixels": "--max-pixels",
}
_PREVIEW_PIXELS = 320
_PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".avif", ".heic")
_SERVICE_OPTIONS = {"key_file": "--key-file", "timeout": "--timeout"}


@click.command()
@click.argument("query", required=False)
@click.option(
    "--queries",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE|-",
    help="Search for each line of this file, or of standard input, instead of QUERY; with --json, print JSON Lines.",
)
@click.option(
    "--image",
    metavar="FILE|ID",
    help="Find images similar to this picture, or to the indexed image with this id; with QUERY, to both.",
)
@click.option(
    "--text-weight",
    type=click.FloatRange(0, 1),
    default=DEFAULT_TEXT_WEIGHT,
    show_default=True,
    help="Weight of QUERY; the image of --image has the rest.",
)
@click.option(
    "--plus",
    multiple=True,
    metavar="TERM[:WEIGHT]",
    help="Also search by this: words, a picture file or the id of an indexed image; WEIGHT is at most 1; repeatable.",
)
@click.option(
    "--minus", multiple=True, metavar="TERM[:WEIGHT]", help="Rank images similar to this lower; repeatable, as --plus."
)
@click.option("-k", "k", type=click.IntRange(1, MAX_K), default=DEFAULT_K, show_default=True, help="Number of results.")
@click.option(
    "--offset",
    type=click.IntRange(0, MAX_SHORTLIST - 1),
    default=0,
    show_default=True,
    help="Number of results to skip.",
)
@click.option(
    "--shortlist",
    type=click.IntRange(1, MAX_SHORTLIST),
    default=DEFAULT_SHORTLIST,
    show_default=True,
    help="Number of nearest neighbours to rerank.",
)
@click.option("--min-score", type=click.FloatRange(0, 1), help="Leave out results with a lower score.")
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Find only images that satisfy this, such as year>=1990, tags=dog|cat, path^=animals/; may be repeated.",
)
@click.option(
    "--sort",
    metavar="[-]FIELD",
    help="Sort matching results by a field such as taken; with a leading `-`, in descending order.",
)
@click.option("--keep-duplicates", is_flag=True, help="Also show near-duplicates of a better result.")
@click.option("--explain", is_flag=True, help="Explain the rank of each result.")
@output_options
@click.option("--url", metavar="URL", help="Search through the service at this URL instead of a local index.")
@key_file_option
@timeout_option
@bundle_option
@index_option
@device_option
@threads_option
@max_pixels_option
@json_option
def search(  # noqa: PLR0913, PLR0917 - one argument per option
    query: str | None,
    queries: Path | None,
    image: str | None,
    text_weight: float,
    plus: tuple[str, ...],
    minus: tuple[str, ...],
    k: int,
    offset: int,
    shortlist: int,
    min_score: float | None,
    where: tuple[str, ...],
    sort: str | None,
    keep_duplicates: bool,
    explain: bool,
    output: Output,
    url: str | None,
    key_file: Path | None,
    timeout: float,
    bundle: Path,
    index_url: str,
    device: Device,
    threads: int,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Print the images that match QUERY best: rank, score (with --image, similarity) and path."""
    if queries is not None and (query is not None or image is not None):
        raise click.UsageError("--queries cannot be used with QUERY or --image")
    if queries is None and query is None and image is None and not plus:
        raise click.UsageError("there is neither QUERY nor --image nor --plus")
    if as_json and output.paths:
        raise click.UsageError("--json cannot be used with --paths")
    _reject_options(_SERVICE_OPTIONS if url is None else _LOCAL_OPTIONS, has_url=url is not None)
    # Models load in a thread, during the imports below, which take as long.
    models = None if url is not None else _open_models(bundle, device, threads, brief=queries is None)
    pictures: list[Picture] = []
    requests = _requests(
        [query] if queries is None else _lines(queries),
        image,
        plus,
        minus,
        pictures,
        text_weight=text_weight,
        k=k,
        offset=offset,
        shortlist=shortlist,
        min_score=min_score,
        filter=[*where] or None,
        sort=sort,
        keep_duplicates=keep_duplicates,
        explain=explain,
    )
    if queries is not None and pictures:
        raise click.UsageError("--queries cannot be used with pictures")
    source: _Service | _Index
    if models is None:
        source = _Service(str(url), key_file, timeout)
    else:
        source = _Index(models, index_url, max_pixels, brief=queries is None)
    with source:
        for number, answer in enumerate(source.answers(requests, pictures)):
            index = number if queries is not None else None
            _show(answer, requests[number], len(pictures), output, source, as_json, index)
            output.process_files(answer, source)


def _requests(
    texts: Sequence[str | None],
    image: str | None,
    plus: Sequence[str],
    minus: Sequence[str],
    pictures: list[Picture],
    **fields: Any,
) -> list[Query]:
    """Build the queries; picture files are appended to `pictures`."""
    # Deferred import, to keep `sceneseek --help` fast.
    from sceneseek.queries import Query  # noqa: PLC0415
    from sceneseek.terms import split_weight, terms_of  # noqa: PLC0415

    def wanted(term: str) -> tuple[str | Path, float]:
        what, weight = (term, 1.0) if _is_picture_file(term) else split_weight(term)
        return Path(what) if _is_picture_file(what) else what, weight

    like = None if image is None else _id_or_file(image)
    if isinstance(like, Path):
        pictures.append(like)
    terms = terms_of(map(wanted, plus), map(wanted, minus), pictures) or None
    return [Query(text=text, image=like if isinstance(like, str) else None, terms=terms, **fields) for text in texts]


def _show(
    answer: Answer,
    query: Query,
    pictures: int,
    output: Output,
    files: Files,
    as_json: bool,
    number: int | None = None,
) -> None:
    """Print an answer; `number` is its index, None for a single query."""
    from sceneseek.api import to_json  # noqa: PLC0415

    if as_json:
        click.echo(to_json(answer, indent=2 if number is None else None))
        return
    if number is not None and not output.paths:
        click.echo(f"\n{answer.query}" if number else answer.query)
    before, after = remarks(answer)
    for remark in before:
        click.echo(remark, err=True)
    if not output.paths:
        listing(answer, query.by_similarity(pictures), query.keep_duplicates, output.previews(files))
    for remark in after:
        click.echo(remark, err=True)


def _lines(file: Path) -> list[str]:
    """The queries of a file or of standard input, one per line; blank lines are skipped."""
    name = "standard input" if file == Path("-") else str(file)
    try:
        content = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        queries = [text for line in content.decode("utf-8-sig").splitlines() if (text := line.strip())]
    except OSError as error:
        raise SourceError(f"{name} cannot be read ({error.strerror})", "give a file with one query per line") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8") from error
    if not queries:
        raise SourceError(f"{name} contains no query", "write one per line")
    return queries


def _is_picture_file(words: str) -> bool:
    """Whether words are the name of an existing file, or look like that of a picture."""
    if words.lower().endswith(_PICTURE_SUFFIXES):
        return True
    with contextlib.suppress(OSError):  # too long for a file name
        return Path(words).is_file()
    return False


def _id_or_file(image: str) -> str | Path:
    """The id if it is a UUID, else the path of a file."""
    try:
        return str(UUID(image))
    except ValueError:
        return Path(image)


def _reject_options(options: dict[str, str], has_url: bool) -> None:
    """Reject options that would be ignored, unless they were set in the environment, for other commands."""
    context = click.get_current_context()
    for name, option in options.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} cannot be used with --url" if has_url else f"{option} requires --url")


def _open_models(bundle: Path, device: Device, threads: int, brief: bool) -> ModelRegistry:
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.models import ModelRegistry  # noqa: PLC0415

    return ModelRegistry(Bundle.load(bundle), device, threads, brief)


class _Index:
    """A local index, and the files at their addresses at the time of indexing; see `Files`."""

    def __init__(self, models: ModelRegistry, url: str, max_pixels: int, brief: bool) -> None:
        from sceneseek.search import Search  # noqa: PLC0415
        from sceneseek.store import open_store  # noqa: PLC0415

        self._bundle, self._max_pixels = models.bundle, max_pixels
        self._search = Search(models, open_store(url, searching=True, brief=brief))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._search.close()

    def answers(self, queries: Sequence[Query], pictures: Sequence[Picture]) -> Iterator[Answer]:
        """Yield the answers; queries run in batches of the same size as with a service."""
        decoded = [self._decode(picture) for picture in pictures]
        for batch in _batches(queries, len(pictures)):
            yield from self._search.queries(batch, pictures=decoded)

    def path(self, result: Result) -> str:
        """See `Files.path`."""
        return self._search.address_of(result.id)

    def copy(self, result: Result, target: Path) -> None:
        """See `Files.copy`; preserves the modification time."""
        content, facts = self._search.open_file(result.id)
        with content, target.open("wb") as copy:
            shutil.copyfileobj(content, copy)
        os.utime(target, ns=(facts.mtime_ns, facts.mtime_ns))

    def address(self, result: Result) -> str:
        """See `Files.address`."""
        return local(self.path(result))

    def thumbnail(self, result: Result) -> Image:
        """See `Files.thumbnail`."""
        from sceneseek.picture import decode  # noqa: PLC0415

        with self._search.open_file(result.id).content as file:
            pixels = decode(file, _PREVIEW_PIXELS, self._max_pixels).pixels
        pixels.thumbnail((_PREVIEW_PIXELS, _PREVIEW_PIXELS))
        return pixels

    def _decode(self, picture: Picture) -> Decoded:
        # Deferred: the client imports urllib3, which other searches of a local index do not need.
        from sceneseek.client.client import content_of  # noqa: PLC0415
        from sceneseek.picture import decode  # noqa: PLC0415
        from sceneseek.preprocess import enough_pixels  # noqa: PLC0415

        try:
            size = enough_pixels(self._bundle.manifest.image_inputs)
            return decode(content_of(picture), size, self._max_pixels)
        except ImageError as error:
            raise ImageError(error.reason, f"{picture!s}: {error.what}", error.hint) from error


class _Service:
    """A service over HTTP, and the files that it serves; see `Files`."""

    def __init__(self, url: str, key_file: Path | None, timeout: float) -> None:
        from sceneseek.client import Client  # noqa: PLC0415

        self._client = Client(url, read_key(key_file), timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._client.close()
        if isinstance(error, KeyRefused):
            hint = f"give its key in a file with --key-file, or in {KEY_VARIABLE}"
            raise KeyRefused(error.what, hint, error.http_status) from error

    def answers(self, queries: Sequence[Query], pictures: Sequence[Picture]) -> Iterator[Answer]:
        """Yield the answers; several queries are sent in batches."""
        if len(queries) == 1:
            yield self._client.ask(queries[0], pictures)
            return
        for batch in _batches(queries):
            yield from self._client.search_many(batch)

    def path(self, result: Result) -> str:
        """See `Files.path`; relative to the source folder of the service."""
        if result.path is None:
            raise NotFound("the service hides the paths of its files", "copy the files with --copy-to")
        return result.path

    def copy(self, result: Result, target: Path) -> None:
        """See `Files.copy`."""
        target.write_bytes(self._client.image(result.id))

    def address(self, result: Result) -> str:
        """See `Files.address`."""
        address = result.image or ""
        if not address.startswith(("http://", "https://")):  # the desktop might execute anything else
            raise NotFound(f"the service provides no web address for {result.id}", "copy the files with --copy-to")
        return address

    def thumbnail(self, result: Result) -> Image:
        """See `Files.thumbnail`."""
        from sceneseek.picture import decode  # noqa: PLC0415

        return decode(self._client.thumbnail(result.id)).pixels


def _batches(queries: Sequence[Query], pictures: int = 0) -> Iterator[Sequence[Query]]:
    """Validate the queries, and split them into batches of `MAX_QUERIES`."""
    from sceneseek.queries import MAX_QUERIES  # noqa: PLC0415

    for query in queries:
        query.parts(pictures)
    yield from (queries[start : start + MAX_QUERIES] for start in range(0, len(queries), MAX_QUERIES))
