"""`Client`: the service's operations as methods; documents are those of `sceneseek.api`, problems our errors."""

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
"""A condition as JSON has it, or one or several in short words, such as ``year>=1990``, that must all hold."""

_PAGE = 50
# Between two looks at what became of an image.
_LOOK_SECONDS = 0.2
_FILE_PART = "file"


class Client:
    """A service, asked over HTTP. Thread-safe; a context manager that ends its connections.

    Any method raises `ServiceUnreachable` where the service does not answer in time, `ServiceError` where its answer
    is none, `KeyRefused` where it wants a key, and otherwise what the service met: `InvalidRequest`, `NotFound`,
    `Overloaded`, `DeadlinePassed`, `IndexUnavailable`, ...

    Args:
        url: the service's address, such as ``https://photos.example``; a path in it is where a proxy shows the service.
        key: the service's key, if it asks for one. It is sent to this address only: redirects are not followed.
        timeout: seconds that a call may take with all its tries; a single wait for the network may end somewhat later.
        retries: how often a request that got lost, or came at a bad moment, is repeated at most.

    Raises:
        InvalidRequest: the address, the key or a number cannot be used.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = 10.0, retries: int = 3) -> None:
        self._connection = Connection(Address.read(url), key, timeout, retries)

    def __repr__(self) -> str:
        return f"Client({str(self._connection.address)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._connection.close()

    def search(  # noqa: PLR0913 - what a search may ask
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
        filter: Filter | None = None,  # noqa: A002 - its name in the service
        sort: str | None = None,
        keep_duplicates: bool = False,
        explain: bool = False,
    ) -> Answer:
        """The images that match best: by score; with an image or a vector by similarity to all that is searched by.

        The arguments are the fields of `Query`, and `plus` and `minus` are its terms of positive and negative weight:
        texts, pictures and ids (as UUIDs or text), each alone or with a weight up to 1, as in ``("sunset", 0.5)``.

        Raises:
            InvalidRequest: it cannot be answered as it stands.
            NotFound: no indexed image has this id.
            ImageError, SourceError: the file is no picture that can be used, or cannot be read.
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
        """The answer to one query, which pictures may come with; see `search`."""
        query.parts(len(pictures))
        body = _form(_with_words(query), pictures) if pictures else _json(query)
        return self._answer(self._post("/v1/search", body, Answer))

    def search_many(self, queries: Sequence[str | Query]) -> list[Answer]:
        """The answers to several queries, in their order, all from one generation of the index.

        Raises:
            InvalidRequest: one of them cannot be answered, or there are more of them than the service takes.
            NotFound: see `search`.
        """
        batch = QueryBatch([_query(query) for query in queries])
        for query in batch.queries:
            query.parts()
        answers = self._post("/v1/search", _json(batch), Answers).answers
        if len(answers) != len(queries):
            raise self._not_understood(f"there are not {len(queries)} answers")
        return [self._answer(answer) for answer in answers]

    def pages(self, query: str | Query) -> Iterator[Answer]:
        """The pages of a search, each of the query's k results (50 of a text alone), until nothing comes after.

        A service orders some ten thousand results of a search at most; a filter leads further.

        Raises:
            IndexChanged: the index was replaced meanwhile, so that further pages might leave images out or repeat them.
            SceneseekError: see `search`.
        """
        asked = query if isinstance(query, Query) else Query(query, k=_PAGE)
        page = self.ask(asked)
        yield page
        while page.next_offset is not None:
            following = self.ask(replace(asked, offset=page.next_offset))
            if following.generation != page.generation:
                raise IndexChanged(
                    f"the index changed after {page.next_offset} results", "start the search again for whole results"
                )
            page = following
            yield page

    def results(self, query: str | Query) -> Iterator[Result]:
        """All results of a search, fetched page by page; see `pages`."""
        for page in self.pages(query):
            yield from page.results

    def score(self, text: str, images: Sequence[ImageId | Picture]) -> Scores:
        """What a text scores for some images, in their order.

        Args:
            text: a scene in words.
            images: ids of indexed images, or else files or what they hold; the service says how many are too many.

        Raises:
            InvalidRequest: it cannot be answered as it stands.
            NotFound: no indexed image has one of the ids.
            ImageError, SourceError: a file is no picture that can be used, or cannot be read.
        """
        pictures = [image for image in images if isinstance(image, Path | bytes)]
        ids = [image for image in images if not isinstance(image, Path | bytes)]
        if pictures and ids:
            raise InvalidRequest("there are ids and pictures to score for", "ask for the ones, then for the others")
        if pictures:
            body = _form({"q": checked_query(text)}, pictures)
        else:
            body = _json(ScoreRequest(text, [str(image) for image in ids]))
        return self._post("/v1/score", body, Scores)

    def embed(self, inputs: Sequence[str] | Sequence[Picture]) -> list[list[float]]:
        """Vectors of length 1 in the joint space, one for each text or each picture.

        Raises:
            InvalidRequest: there are none or too many, or texts and pictures.
            ImageError, SourceError: a file is no picture that can be used, or cannot be read.
        """
        texts = [each for each in inputs if isinstance(each, str)]
        pictures = [each for each in inputs if not isinstance(each, str)]
        if texts and pictures:
            raise InvalidRequest("there are texts and pictures to embed", "embed the ones, then the others")
        body = _form({}, pictures) if pictures else _json(EmbeddingRequest(input=texts))
        found = self._post("/v1/embeddings", body, Embeddings)
        return [[float(number) for number in each.embedding] for each in found.data]

    def feedback(
        self, query: str, image: ImageId, rating: int, *, rater: str | None = None, key: str | None = None
    ) -> Feedback:
        """Rate how well an image matches a query; the rating is stored for training.

        Args:
            query: the text that was searched.
            image: the id of a result.
            rating: from 1 (no match) to 4 (matches fully).
            rater: who says so, to tell people's ratings apart.
            key: what tells this rating from others: a rating whose key came before is not stored twice. One is made up
                where none is given, so that a repeated request is stored once.

        Raises:
            InvalidRequest: the rating is none.
            NotFound: no indexed image has this id, or the service keeps no ratings.
            Conflict: another rating was sent with this key.
            FeedbackUnavailable: it cannot be stored now.
        """
        rated = Rating(query, str(image), rating, rater, key or str(uuid4()))
        return self._post("/v1/feedback", _json(rated), Feedback)

    def collections(self) -> Collections:
        """The generations of the index, and which of them answers."""
        return self._get("/v1/collections", Collections)

    def details(self, image: ImageId) -> ImageDetails:
        """What the index knows of an image.

        Raises:
            NotFound: no indexed image has this id.
        """
        return self._reachable(self._get(f"/v1/images/{_id(image)}/details", ImageDetails))

    def image(self, image: ImageId) -> bytes:
        """The original file.

        Raises:
            NotFound: no indexed image has this id, or its file has gone.
        """
        return self._connection.ask("GET", f"/v1/images/{_id(image)}").content

    def thumbnail(self, image: ImageId) -> bytes:
        """A small JPEG of an image.

        Raises:
            NotFound: no indexed image has this id, or its file has gone.
        """
        return self._connection.ask("GET", f"/v1/images/{_id(image)}/thumbnail").content

    def upload(
        self, picture: Picture, name: str, *, if_match: str | None = None, wait: float | None = None
    ) -> ImageStatus:
        """Put a picture into the service's folder for them; with the key of one who may write.

        Args:
            picture: a file, or what it holds.
            name: the path that it gets there, such as ``2024/beach.jpg``.
            if_match: the ``etag`` of the image that it replaces; `*` of any. Without it, it replaces none; the same
                picture may be sent again.
            wait: seconds until which to wait for it to be found or refused; None waits for nothing.

        Raises:
            Forbidden: the service takes no pictures, or the key may not write.
            PreconditionRequired: there is another image of the name.
            PreconditionFailed: the image is not that of `if_match`.
            Unprocessable, Conflict: the name cannot be one of a picture there.
            ImageError, SourceError: the file is no picture that can be used, or cannot be read.
            NoSpace, UploadsUnavailable: it cannot be written.
        """
        body = Body(content_of(picture), "application/octet-stream")
        path = f"/v1/images/{quote(name, errors='surrogateescape')}"
        status = self._read(self._connection.ask("PUT", path, body, _condition(if_match)), ImageStatus)
        return self._settled(status, "pending", wait)

    def delete(self, image: ImageId, *, if_match: str | None = None, wait: float | None = None) -> ImageStatus:
        """Delete an image; with the key of one who may write.

        Args:
            image: the id.
            if_match: the ``etag`` of the image that may be deleted; without it, it may be any.
            wait: seconds until which to wait for searches not to find it any more; None waits for nothing.

        Raises:
            NotFound: no image has this id.
            Forbidden: the service deletes no pictures, or not this one, or the key may not write.
            PreconditionFailed: the image is not that of `if_match`.
        """
        reply = self._connection.ask("DELETE", f"/v1/images/{_id(image)}", headers=_condition(if_match))
        return self._settled(self._read(reply, ImageStatus), "deleting", wait)

    def status(self, image: ImageId) -> ImageStatus:
        """What became of an image that was uploaded or deleted.

        Raises:
            NotFound: no image has this id.
        """
        return self._get(f"/v1/images/{_id(image)}/status", ImageStatus)

    def ready(self) -> Readiness:
        """What the service answers from, now that it can.

        Raises:
            ServiceError: it cannot answer, and says why.
        """
        return self._get("/readyz", Readiness)

    def _settled(self, status: ImageStatus, passing: str, wait: float | None) -> ImageStatus:
        """The status once its state is no more the passing one, or the seconds are over."""
        end = time.monotonic() + (wait or 0)
        while status.state == passing and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
            status = self.status(status.id)
        return status

    def _get(self, path: str, kind: type[Document]) -> Document:
        return self._read(self._connection.ask("GET", path), kind)

    def _post(self, path: str, body: Body, kind: type[Document]) -> Document:
        return self._read(self._connection.ask("POST", path, body), kind)

    def _read(self, reply: Reply, kind: type[Document]) -> Document:
        try:
            return read_answer(kind, reply.content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            if first["type"] == "json_invalid":
                raise self._not_understood(f"{reply.media_type or 'what came'} is no JSON") from error
            flaw = (
                "is missing"
                if first["type"] == "missing"
                else f"is {str(first['input'])[:40]!r}, which is not what was expected"
            )
            raise self._not_understood(f"{place(first['loc'])} {flaw}".strip()) from error

    def _not_understood(self, why: str) -> ServiceError:
        what = f"the answer of {self._connection.address} is not understood ({why})"
        return ServiceError(what, "check the address; a sceneseek service there may be older than this client", 200)

    def _answer(self, answer: Answer) -> Answer:
        return replace(answer, results=tuple(self._reachable(result) for result in answer.results))

    def _reachable(self, image: Image) -> Image:
        """The same, with addresses that lead there from anywhere; those of the service are without its host."""
        origin = self._connection.address.origin
        at = {name: urljoin(origin, path) for name in ("image", "thumbnail") if (path := getattr(image, name))}
        return replace(image, **at)


def _query(query: str | Query) -> Query:
    return query if isinstance(query, Query) else Query(query)


def _id(image: ImageId) -> UUID:
    """The id of an indexed image.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return image if isinstance(image, UUID) else UUID(image)
    except (ValueError, AttributeError, TypeError):
        hint = "name an image by the id that a result has; give a file as a pathlib.Path"
        raise InvalidRequest(f"{str(image)[:60]!r} is no id of an image", hint) from None


def _conditions(given: Filter | None) -> dict[str, Any] | list[str] | None:
    if given is None or isinstance(given, str):
        return [given] if given else None
    return dict(given) if isinstance(given, Mapping) else list(given)


def _with_words(query: Query) -> dict[str, Any]:
    """The fields of a form, which has no objects: terms are JSON, and a vector is the base64 of its bytes."""
    if isinstance(query.filter, dict):
        raise InvalidRequest("the filter beside a picture is an object", 'write it in words: "year>=1990"')
    fields = to_fields(query)
    if "terms" in fields:
        fields["terms"] = [json.dumps(term) for term in fields["terms"]]
    if isinstance(query.vector, list):
        try:
            fields["vector"] = b64encode(struct.pack(f"<{len(query.vector)}f", *query.vector)).decode("ascii")
        except OverflowError:
            raise InvalidRequest("a number of the vector is too large", Query.HINTS["vector"]) from None
    return fields


def _condition(tag: str | None) -> dict[str, str]:
    if tag is None:
        return {}
    return {"If-Match": tag if tag == "*" else f'"{tag}"'}


def _json(request: Query | QueryBatch | ScoreRequest | EmbeddingRequest | Rating) -> Body:
    return Body(to_json(request), "application/json")


def _form(fields: Mapping[str, Any], pictures: Sequence[Picture]) -> Body:
    """A form with pictures. The names of their files are not sent.

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
    """What the file holds.

    Raises:
        SourceError: it cannot be read.
    """
    if isinstance(picture, bytes):
        return picture
    try:
        return picture.read_bytes()
    except OSError as error:
        raise SourceError(f"the picture {picture} cannot be read ({error.strerror})", "check its name") from error
