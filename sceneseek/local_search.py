"""A search of an index that is opened here, asked and answered in the client's words: one shape from everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sceneseek import client
from sceneseek.bundle import Bundle
from sceneseek.client.query import Filter as AskedFilter
from sceneseek.client.query import ImageId, content_of, image_id
from sceneseek.client.query import Picture as AskedPicture
from sceneseek.errors import ImageError
from sceneseek.filters import Filter, filter_from_json, filter_from_words
from sceneseek.picture import Picture, decode, enough_pixels
from sceneseek.request import Query
from sceneseek.runtime import Device
from sceneseek.search import Answer, Result, Search
from sceneseek.store import open_store


def search_here(
    asked: client.Query, bundle_directory: Path, index_url: str, device: Device, threads: int
) -> client.Answer:
    """The answer to a query.

    Raises:
        InvalidRequest: it is no search.
        NotFound: no indexed image has the id.
        SourceError, ImageError: the file cannot be read, or is no picture.
        BundleError, IndexUnavailable, RuntimeUnavailable: see `Search`.
    """
    bundle = Bundle.load(bundle_directory)
    query = Query(
        text=asked.text,
        image=_image(asked.image, bundle),
        text_weight=asked.text_weight,
        k=asked.k,
        offset=asked.offset,
        shortlist=asked.shortlist,
        min_score=asked.min_score,
        where=_where(asked.filter),
        keep_duplicates=asked.keep_duplicates,
        explain=asked.explain,
    )
    pipeline = Search(bundle, open_store(index_url, searching=True), device, threads)
    try:
        return _answer(pipeline.query(query))
    finally:
        pipeline.close()


def _image(image: ImageId | AskedPicture | None, bundle: Bundle) -> str | Picture | None:
    if image is None:
        return None
    if not isinstance(image, Path | bytes):
        return image_id(image)
    try:
        return decode(content_of(image), enough_pixels(bundle.manifest.image_inputs))
    except ImageError as error:
        what = f"{image}: {error.what}" if isinstance(image, Path) else error.what
        raise ImageError(error.reason, what, error.hint) from error


def _where(given: AskedFilter | None) -> Filter | None:
    if isinstance(given, Mapping):
        return filter_from_json(given)
    return filter_from_words((given,) if isinstance(given, str) else tuple(given or ()))


def _answer(answer: Answer) -> client.Answer:
    return client.Answer(
        query=answer.query,
        truncated=answer.truncated,
        match=answer.match,
        threshold=answer.threshold,
        results=tuple(_result(result) for result in answer.results),
        offset=answer.offset,
        next_offset=answer.next_offset,
        shortlist=answer.shortlist,
        generation=answer.generation,
        bundle=answer.bundle,
        calibrated=answer.calibrated,
        timings_ms=answer.timings_ms,
    )


def _result(result: Result) -> client.Result:
    explanation = result.explanation
    return client.Result(
        rank=result.rank,
        id=result.id,
        score=result.score,
        match=result.match,
        similarity=result.similarity,
        path=result.path,
        width=result.width,
        height=result.height,
        format=result.format,
        metadata=result.metadata,
        duplicates=result.duplicates,
        explanation=None
        if explanation is None
        else client.Explanation(
            rank_before=explanation.neighbour,
            rank_after=explanation.rank,
            text_similarity=explanation.text_similarity,
            image_similarity=explanation.image_similarity,
        ),
    )
