"""`sceneseek search`: searches of an index here, or of a service over HTTP, with the same options and output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click
from click.core import ParameterSource

from sceneseek.errors import ImageError, KeyRefused, SourceError, one_line
from sceneseek.options import bundle_option, device_option, index_option, json_option, max_pixels_option, threads_option
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, DEFAULT_TEXT_WEIGHT, MAX_K, MAX_SHORTLIST

if TYPE_CHECKING:
    from sceneseek.api import Answer, Explanation, Result
    from sceneseek.models import ModelRegistry
    from sceneseek.queries import Query
    from sceneseek.runtime import Device

KEY_VARIABLE = "SCENESEEK_API_KEY"
_OF_AN_INDEX_HERE = {
    "bundle": "--bundle",
    "index_url": "--index",
    "device": "--device",
    "threads": "--threads",
    "max_pixels": "--max-pixels",
}
_OF_A_SERVICE = {"key_file": "--key-file", "timeout": "--timeout"}


@click.command()
@click.argument("query", required=False)
@click.option(
    "--queries",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE|-",
    help="Answer each line of this file, or of standard input, in the place of QUERY; with --json as JSON Lines.",
)
@click.option(
    "--image",
    metavar="FILE|ID",
    help="Find what looks like this picture, or like the indexed image of this id; with QUERY, like both.",
)
@click.option(
    "--text-weight",
    type=click.FloatRange(0, 1),
    default=DEFAULT_TEXT_WEIGHT,
    show_default=True,
    help="The share of QUERY beside an image.",
)
@click.option("-k", "k", type=click.IntRange(1, MAX_K), default=DEFAULT_K, show_default=True, help="How many results.")
@click.option(
    "--offset",
    type=click.IntRange(0, MAX_SHORTLIST),
    default=0,
    show_default=True,
    help="How many results to leave out at the beginning.",
)
@click.option(
    "--shortlist",
    type=click.IntRange(1, MAX_SHORTLIST),
    default=DEFAULT_SHORTLIST,
    show_default=True,
    help="How many nearest neighbours to rescore.",
)
@click.option("--min-score", type=click.FloatRange(0, 1), help="Leave out results of a lower score.")
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Find only images for which this holds, such as year>=1990, tags=dog|cat, path^=animals/; may be repeated.",
)
@click.option("--keep-duplicates", is_flag=True, help="Show near-duplicates of a better result too.")
@click.option("--explain", is_flag=True, help="Say of each result how it came to its rank.")
@click.option("--url", metavar="URL", help="Ask the service at this address instead of opening an index here.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help=f"A file with the service's key; without it {KEY_VARIABLE} is the key.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=10,
    show_default=True,
    help="Seconds that the service may take.",
)
@bundle_option
@index_option
@device_option
@threads_option
@max_pixels_option
@json_option
def search(  # noqa: PLR0913, PLR0917 - one argument an option
    query: str | None,
    queries: Path | None,
    image: str | None,
    text_weight: float,
    k: int,
    offset: int,
    shortlist: int,
    min_score: float | None,
    where: tuple[str, ...],
    keep_duplicates: bool,
    explain: bool,
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
    """Print the images that match QUERY best: rank, score, path; by similarity instead of score with --image."""
    if queries is not None and (query is not None or image is not None):
        raise click.UsageError("--queries goes with neither QUERY nor --image")
    if queries is None and query is None and image is None:
        raise click.UsageError("there is neither QUERY nor --image")
    _refuse(_OF_A_SERVICE if url is None else _OF_AN_INDEX_HERE, has_url=url is not None)
    # Before the next imports, which take as long as its thread.
    models = None if url is not None else _open_models(bundle, device, threads, brief=queries is None)
    # Imported here so that `sceneseek --help` answers at once.
    from sceneseek.api import to_json  # noqa: PLC0415
    from sceneseek.queries import Query  # noqa: PLC0415

    like = None if image is None else _id_or_file(image)
    picture = like if isinstance(like, Path) else None
    asked = [
        Query(
            text=text,
            image=like if isinstance(like, str) else None,
            text_weight=text_weight,
            k=k,
            offset=offset,
            shortlist=shortlist,
            min_score=min_score,
            filter=[*where] or None,
            keep_duplicates=keep_duplicates,
            explain=explain,
        )
        for text in ([query] if queries is None else _lines(queries))
    ]
    if models is not None:
        answers = _answers_of_index(asked, picture, models, index_url, max_pixels)
    else:
        answers = _answers_of_service(asked, picture, str(url), key_file, timeout)
    for number, answer in enumerate(answers):
        if as_json:
            click.echo(to_json(answer, indent=2 if queries is None else None))
            continue
        if queries is not None:
            click.echo(f"\n{answer.query}" if number else answer.query)
        before, after = remarks(answer)
        for remark in before:
            click.echo(remark, err=True)
        for line in listing(answer, by_similarity=image is not None, keep_duplicates=keep_duplicates):
            click.echo(line)
        for remark in after:
            click.echo(remark, err=True)


def _lines(file: Path) -> list[str]:
    """The queries of a file, or of standard input; empty lines are none."""
    name = "standard input" if file == Path("-") else str(file)
    try:
        content = sys.stdin.buffer.read() if file == Path("-") else file.read_bytes()
        queries = [text for line in content.decode("utf-8-sig").splitlines() if (text := line.strip())]
    except OSError as error:
        raise SourceError(
            f"{name} cannot be read ({error.strerror})", "name a file with a query on each line"
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{name} is not UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8") from error
    if not queries:
        raise SourceError(f"{name} holds no query", "write one on each line")
    return queries


def _id_or_file(image: str) -> str | Path:
    """What looks like an id is one."""
    try:
        return str(UUID(image))
    except ValueError:
        return Path(image)


def _refuse(options: dict[str, str], has_url: bool) -> None:
    """Options that would mean nothing are a mistake; from the environment they are meant for other calls."""
    context = click.get_current_context()
    for name, option in options.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} does not go with --url" if has_url else f"{option} goes with --url")


def _open_models(bundle: Path, device: Device, threads: int, brief: bool) -> ModelRegistry:
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.models import ModelRegistry  # noqa: PLC0415

    return ModelRegistry(Bundle.load(bundle), device, threads, brief)


def _answers_of_index(
    asked: Sequence[Query], picture: Path | None, models: ModelRegistry, index_url: str, max_pixels: int
) -> Iterator[Answer]:
    """The answers of an index that is opened here."""
    from sceneseek.search import Search  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415

    decoded = None
    if picture is not None:
        # The client brings urllib3, which no other search here needs.
        from sceneseek.client.client import content_of  # noqa: PLC0415
        from sceneseek.picture import decode  # noqa: PLC0415
        from sceneseek.preprocess import enough_pixels  # noqa: PLC0415

        try:
            decoded = decode(content_of(picture), enough_pixels(models.bundle.manifest.image_inputs), max_pixels)
        except ImageError as error:
            raise ImageError(error.reason, f"{picture}: {error.what}", error.hint) from error
    pipeline = Search(models, open_store(index_url, searching=True, brief=len(asked) == 1))
    try:
        if len(asked) == 1:
            yield pipeline.query(asked[0], picture=decoded)
            return
        for batch in _batches(asked):
            yield from pipeline.queries(batch)
    finally:
        pipeline.close()


def _answers_of_service(
    asked: Sequence[Query], picture: Path | None, url: str, key_file: Path | None, timeout: float
) -> Iterator[Answer]:
    from sceneseek.client import Client  # noqa: PLC0415

    try:
        with Client(url, _key(key_file), timeout=timeout) as client:
            if len(asked) == 1:
                yield client.ask(asked[0], picture)
                return
            for batch in _batches(asked):
                yield from client.search_many(batch)
    except KeyRefused as error:
        hint = f"give its key in a file with --key-file, or as {KEY_VARIABLE}"
        raise KeyRefused(error.what, hint, error.http_status) from error


def _batches(asked: Sequence[Query]) -> Iterator[Sequence[Query]]:
    """As many together as a service takes."""
    from sceneseek.queries import MAX_QUERIES  # noqa: PLC0415

    for query in asked:
        query.check()
    yield from (asked[start : start + MAX_QUERIES] for start in range(0, len(asked), MAX_QUERIES))


def _key(file: Path | None) -> str | None:
    """The key of the service; no option, since other users of a machine can read what a command was called with."""
    if file is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"the key file {file} cannot be read ({error.strerror})", "check its name") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"the key file {file} holds no text", "give the file that has the key alone") from error


def listing(answer: Answer, by_similarity: bool = False, keep_duplicates: bool = False) -> Iterator[str]:
    """Rank, score and name of each result; with an image its similarity, which is what the order is by."""
    for result in answer.results:
        value = result.similarity if by_similarity or result.score is None else result.score
        folded = f"  (+{result.duplicates} similar)" if result.duplicates and not keep_duplicates else ""
        yield f"{result.rank:2d}  {value:.2f}  {_name(result)}{folded}"
        if result.explanation is not None:
            yield f"    {_explained(result.explanation)}"


def remarks(answer: Answer) -> tuple[list[str], list[str]]:
    """What is to be known before the results are read, and after."""
    before, after = [], []
    if not answer.results:
        before.append("nothing was found")
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


def _explained(explanation: Explanation) -> str:
    similarities = [("text", explanation.text_similarity), ("image", explanation.image_similarity)]
    parts = [f"{similarity:.2f} to the {what}" for what, similarity in similarities if similarity is not None]
    return f"neighbour {explanation.rank_before}; similarity {', '.join(parts)}"
