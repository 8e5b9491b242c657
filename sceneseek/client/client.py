"""`Client`: the operations of the service as methods. Returns dataclasses of `sceneseek.api`, raises our errors."""

from __future__ import annotations

import json
import struct
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar
from urllib.parse import quote, urljoin
from uuid import UUID, uuid4

from pydantic import ValidationError
from urllib3 import encode_multipart_formdata

from sceneseek.api import (
    Answer,
    Answers,
    Collections,
    Embeddings,
    Feedback,
    ImageDetails,
    ImageStatus,
    Readiness,
    Result,
    Scores,
    read_answer,
    to_fields,
    to_json,
)
from sceneseek.client.connection import Address, Body, Connection
from sceneseek.client.reply import Reply
from sceneseek.errors import IndexChanged, InvalidRequest, ServiceError, SourceError
from sceneseek.queries import EmbeddingRequest, Query, QueryBatch, Rating, ScoreRequest
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, DEFAULT_TEXT_WEIGHT, checked_query, place
from sceneseek.terms import Picture, Wanted, terms_of

Document = TypeVar("Document")
Image = TypeVar("Image", bound=ImageDetails)

ImageId: TypeAlias = str | UUID
Filter: TypeAlias = Mapping[str, Any] | Sequence[str] | str
"""A condition as a JSON object, or one or more in short form, such as ``year>=1990``, that must all hold."""

_PAGE = 50
# Interval of requests for the status of an image.
_POLL_SECONDS = 0.2
_FILE_PART = "file"


class Client:
    """An HTTP client of one service. Thread-safe; a context manager that closes its connections.

    Any method raises `ServiceUnreachable` if the service does not respond in time, `ServiceError` if its response is
    not valid, `KeyRefused` if the key is missing or wrong, and otherwise the error that the service reports:
    `InvalidRequest`, `NotFound`, `Overloaded`, `DeadlinePassed`, `IndexUnavailable`, ...

    Args:
        url: the address of the service, such as ``https://photos.example``, with the path prefix of a proxy, if any.
        key: the API key, if the service requires one. It is sent to this address only: redirects are not followed.
        timeout: seconds for a call, including retries; a single network operation may overrun it slightly.
        retries: the maximum number of retries of a request that was lost or rejected temporarily.

    Raises:
        InvalidRequest: the address, the key or a number is not valid.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 10.0, retries: int = 3) -> None:
        self._connection = Connection(Address.parse(url), key, timeout, retries)

    def __repr__(self) -> str:
        return f"Client({str(self._connection.address)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def search(  # noqa: PLR0913 - the fields of a query
        self,
        text: str | None = None,
        *,
        image: ImageId | Picture | None = None,
        vector: Sequence[float] | str | None = None,
        text_weight: float = DEFAULT_TEXT_WEIGHT,
        plus: Sequence[Wanted] = (),
        minus: Sequence[Wanted] = (),
        k: int = DEFAULT_K,
        offset: int = 0,
        shortlist: int = DEFAULT_SHORTLIST,
        min_score: float | None = None,
        filter: Filter | None = None,  # noqa: A002 - the name of the field in the API
        sort: str | None = None,
        keep_duplicates: bool = False,
        explain: bool = False,
    ) -> Answer:
        """Return the best matches, ordered by score, or by similarity if the query has an image or a vector.

        The arguments are the fields of `Query`; `plus` and `minus` are its terms of positive and negative weight:
        texts, pictures and ids (UUIDs or text), each alone or with a weight up to 1, as in ``("sunset", 0.5)``.

        Raises:
            InvalidRequest: the query is not valid.
            NotFound: no indexed image has this id.
            ImageError, SourceError: the file is not a usable picture, or cannot be read.
        """
        pictures: list[Picture] = [image] if isinstance(image, Picture) else []
        query = Query(
            text=text,
            image=None if image is None or pictures else str(image),
            vector=vector if vector is None or isinstance(vector, str) else [*vector],
            text_weight=text_weight,
            terms=terms_of(plus, minus, pictures) or None,
            k=k,
            offset=offset,
            shortlist=shortlist,
            min_score=min_score,
            filter=_conditions(filter),
            sort=sort,
            keep_duplicates=keep_duplicates,
            explain=explain,
        )
        return self.ask(query, pictures)

    def ask(self, query: Query, pictures: Sequence[Picture] = ()) -> Answer:
        """Send a query, optionally with pictures, and return its answer; see `search`."""
        query.parts(len(pictures))
        body = _form(_form_fields(query), pictures) if pictures else _json(query)
        return self._with_absolute_urls(self._post("/v1/search", body, Answer))

    def search_many(self, queries: Sequence[str | Query]) -> list[Answer]:
        """Return the answers to several queries, in order, all from the same generation of the index.

        Raises:
            InvalidRequest: a query is not valid, or there are more queries than the service accepts.
            NotFound: see `search`.
        """
        batch = QueryBatch([_query(query) for query in queries])
        for query in batch.queries:
            query.parts()
        answers = self._post("/v1/search", _json(batch), Answers).answers
        if len(answers) != len(queries):
            raise self._invalid_response(f"expected {len(queries)} answers")
        return [self._with_absolute_urls(answer) for answer in answers]

    def pages(self, query: str | Query) -> Iterator[Answer]:
        """Yield all pages of a search, each with the query's `k` results (50 if the query is a text alone).

        A service orders at most some ten thousand results of a search; narrow it with a filter to get others.

        Raises:
            IndexChanged: the index was replaced meanwhile, so further pages could skip or repeat images.
            SceneseekError: see `search`.
        """
        first_query = query if isinstance(query, Query) else Query(query, k=_PAGE)
        page = self.ask(first_query)
        yield page
        while page.next_offset is not None:
            next_page = self.ask(replace(first_query, offset=page.next_offset))
            if next_page.generation != page.generation:
                raise IndexChanged(f"the index changed after {page.next_offset} results", "start the search again")
            page = next_page
            yield page

    def results(self, query: str | Query) -> Iterator[Result]:
        """Yield all results of a search, fetched page by page; see `pages`."""
        for page in self.pages(query):
            yield from page.results

    def score(self, text: str, images: Sequence[ImageId | Picture]) -> Scores:
        """Return the scores of a text for some images, in their order.

        Args:
            text: a scene in words.
            images: either ids of indexed images, or files or their contents; the service limits their number.

        Raises:
            InvalidRequest: the text or an id is not valid, there are too many images, or both ids and pictures.
            NotFound: no indexed image has one of the ids.
            ImageError, SourceError: a file is not a usable picture, or cannot be read.
        """
        pictures = [image for image in images if isinstance(image, Path | bytes)]
        ids = [image for image in images if not isinstance(image, Path | bytes)]
        if pictures and ids:
            raise InvalidRequest("ids and pictures cannot be scored together", "score them in separate calls")
        if pictures:
            body = _form({"q": checked_query(text)}, pictures)
        else:
            body = _json(ScoreRequest(text, [str(image) for image in ids]))
        return self._post("/v1/score", body, Scores)

    def embed(self, inputs: Sequence[str] | Sequence[Picture]) -> list[list[float]]:
        """Return vectors of length 1 in the joint space, one per text or picture.

        Raises:
            InvalidRequest: there are no inputs or too many, or both texts and pictures.
            ImageError, SourceError: a file is not a usable picture, or cannot be read.
        """
        texts = [each for each in inputs if isinstance(each, str)]
        pictures = [each for each in inputs if not isinstance(each, str)]
        if texts and pictures:
            raise InvalidRequest("texts and pictures cannot be embedded together", "embed them in separate calls")
        body = _form({}, pictures) if pictures else _json(EmbeddingRequest(input=texts))
        embeddings = self._post("/v1/embeddings", body, Embeddings)
        return [[float(number) for number in each.embedding] for each in embeddings.data]

    def feedback(
        self, query: str, image: ImageId, rating: int, *, rater: str | None = None, key: str | None = None
    ) -> Feedback:
        """Rate how well an image matches a query; the rating is stored for training.

        Args:
            query: the text of the search.
            image: the id of a result.
            rating: from 1 (no match) to 4 (full match).
            rater: identifies the person who rates; optional.
            key: idempotency key: a rating with the same key is stored once. Defaults to a random one, so that a retry
                is not stored twice.

        Raises:
            InvalidRequest: the rating is not valid.
            NotFound: no indexed image has this id, or the service does not store ratings.
            Conflict: the key was used for another rating.
            FeedbackUnavailable: the rating cannot be stored now.
        """
        body = _json(Rating(query, str(image), rating, rater, key or str(uuid4())))
        return self._post("/v1/feedback", body, Feedback)

    def collections(self) -> Collections:
        """Return the generations of the index, and which of them is live."""
        return self._get("/v1/collections", Collections)

    def details(self, image: ImageId) -> ImageDetails:
        """Return the record of an image in the index.

        Raises:
            NotFound: no indexed image has this id.
        """
        return self._absolute(self._get(f"/v1/images/{_id(image)}/details", ImageDetails))

    def image(self, image: ImageId) -> bytes:
        """Return the original file.

        Raises:
            NotFound: no indexed image has this id, or its file no longer exists.
        """
        return self._connection.request("GET", f"/v1/images/{_id(image)}").content

    def thumbnail(self, image: ImageId) -> bytes:
        """Return a small JPEG of an image.

        Raises:
            NotFound: no indexed image has this id, or its file no longer exists.
        """
        return self._connection.request("GET", f"/v1/images/{_id(image)}/thumbnail").content

    def upload(
        self, picture: Picture, name: str, *, if_match: str | None = None, wait: float | None = None
    ) -> ImageStatus:
        """Upload a picture to the upload folder of the service. Requires a key with write access.

        Args:
            picture: a file, or its content.
            name: the path of the image in that folder, such as ``2024/beach.jpg``.
            if_match: the ``etag`` of the image to replace, or `*` to replace any. None replaces nothing; uploading the
                same content again is allowed.
            wait: seconds to wait until searches find the picture or the index refuses it; None does not wait.

        Raises:
            Forbidden: the service does not accept uploads, or the key has no write access.
            PreconditionRequired: another image has this name.
            PreconditionFailed: the image does not match `if_match`.
            Unprocessable, Conflict: the name is not valid for a picture in that folder.
            ImageError, SourceError: the file is not a usable picture, or cannot be read.
            NoSpace, UploadsUnavailable: the picture cannot be written.
        """
        body = Body(content_of(picture), "application/octet-stream")
        path = f"/v1/images/{quote(name, errors='surrogateescape')}"
        status = self._read(self._connection.request("PUT", path, body, _if_match_header(if_match)), ImageStatus)
        return self._wait_while("pending", status, wait)

    def delete(self, image: ImageId, *, if_match: str | None = None, wait: float | None = None) -> ImageStatus:
        """Delete an image. Requires a key with write access.

        Args:
            image: the id.
            if_match: the ``etag`` of the image to delete; None deletes it unconditionally.
            wait: seconds to wait until searches no longer find the image; None does not wait.

        Raises:
            NotFound: no image has this id.
            Forbidden: the service does not allow deletions, or not this one, or the key has no write access.
            PreconditionFailed: the image does not match `if_match`.
        """
        reply = self._connection.request("DELETE", f"/v1/images/{_id(image)}", headers=_if_match_header(if_match))
        return self._wait_while("deleting", self._read(reply, ImageStatus), wait)

    def status(self, image: ImageId) -> ImageStatus:
        """Return the status of an uploaded, indexed or deleted image.

        Raises:
            NotFound: no image has this id.
        """
        return self._get(f"/v1/images/{_id(image)}/status", ImageStatus)

    def ready(self) -> Readiness:
        """Return the models and the index of a service that is ready.

        Raises:
            ServiceError: it is not ready; the error says why.
        """
        return self._get("/readyz", Readiness)

    def _wait_while(self, state: str, status: ImageStatus, wait: float | None) -> ImageStatus:
        """Poll until the state changes or the wait is over; return the last status."""
        end = time.monotonic() + (wait or 0)
        while status.state == state and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            status = self.status(status.id)
        return status

    def _get(self, path: str, kind: type[Document]) -> Document:
        return self._read(self._connection.request("GET", path), kind)

    def _post(self, path: str, body: Body, kind: type[Document]) -> Document:
        return self._read(self._connection.request("POST", path, body), kind)

    def _read(self, reply: Reply, kind: type[Document]) -> Document:
        try:
            return read_answer(kind, reply.content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["type"] == "json_invalid":
                raise self._invalid_response(f"{reply.media_type or 'the body'} is not JSON") from error
            missing = first["type"] == "missing"
            flaw = "is missing" if missing else f"has the unexpected value {str(first['input'])[:40]!r}"
            raise self._invalid_response(f"{place(first['loc'])} {flaw}".strip()) from error

    def _invalid_response(self, why: str) -> ServiceError:
        what = f"the response from {self._connection.address} is not valid ({why})"
        return ServiceError(what, "check the address; a sceneseek service there may be older than this client", 200)

    def _with_absolute_urls(self, answer: Answer) -> Answer:
        return replace(answer, results=tuple(self._absolute(result) for result in answer.results))

    def _absolute(self, image: Image) -> Image:
        """Make the image's URLs absolute; the service sends them without its host."""
        origin = self._connection.address.origin
        urls = {name: urljoin(origin, path) for name in ("image", "thumbnail") if (path := getattr(image, name))}
        return replace(image, **urls)


def _query(query: str | Query) -> Query:
    return query if isinstance(query, Query) else Query(query)


def _id(image: ImageId) -> UUID:
    """Parse the id of an indexed image.

    Raises:
        InvalidRequest: it is not a UUID.
    """
    try:
        return image if isinstance(image, UUID) else UUID(image)
    except (ValueError, AttributeError, TypeError):
        hint = "give the id of a result; give a file as a pathlib.Path"
        raise InvalidRequest(f"{str(image)[:60]!r} is not an image id", hint) from None


def _conditions(where: Filter | None) -> dict[str, Any] | list[str] | None:
    if where is None or isinstance(where, str):
        return [where] if where else None
    return dict(where) if isinstance(where, Mapping) else list(where)


def _form_fields(query: Query) -> dict[str, Any]:
    """The fields of a query as form values: terms as JSON texts, a vector as base64."""
    if isinstance(query.filter, dict):
        raise InvalidRequest("a query with a picture cannot have a JSON filter", 'use the short form: "year>=1990"')
    fields = to_fields(query)
    if "terms" in fields:
        fields["terms"] = [json.dumps(term) for term in fields["terms"]]
    if isinstance(query.vector, list):
        try:
            fields["vector"] = b64encode(struct.pack(f"<{len(query.vector)}f", *query.vector)).decode("ascii")
        except OverflowError:
            raise InvalidRequest("a number of the vector is too large", Query.HINTS["vector"]) from None
    return fields


def _if_match_header(tag: str | None) -> dict[str, str]:
    if tag is None:
        return {}
    return {"If-Match": tag if tag == "*" else f'"{tag}"'}


def _json(request: Query | QueryBatch | ScoreRequest | EmbeddingRequest | Rating) -> Body:
    return Body(to_json(request), "application/json")


def _form(fields: Mapping[str, Any], pictures: Sequence[Picture]) -> Body:
    """A multipart form with pictures; their file names are not sent.

    Raises:
        SourceError: a file cannot be read.
    """
    parts: list[tuple[str, Any]] = []
    for name, value in fields.items():
        parts += [(name, _text(each)) for each in (value if isinstance(value, list) else [value])]
    parts += [(_FILE_PART, ("picture", content_of(picture), "application/octet-stream")) for picture in pictures]
    return Body(*encode_multipart_formdata(parts))


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def content_of(picture: Picture) -> bytes:
    """The content of a picture.

    Raises:
        SourceError: the file cannot be read.
    """
    if isinstance(picture, bytes):
        return picture
    try:
        return picture.read_bytes()
    except OSError as error:
        raise SourceError(f"the picture {picture} cannot be read ({error.strerror})", "check its name") from error
