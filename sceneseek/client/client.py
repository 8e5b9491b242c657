"""`Client`: the service's operations as methods, its documents as dataclasses, its problems as errors of ours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urljoin
from uuid import uuid4

from sceneseek.client.address import Address
from sceneseek.client.answers import Answer, Collections, Feedback, ImageDetails, Readiness, Result, Scores
from sceneseek.client.connection import Connection
from sceneseek.client.query import Body, Filter, ImageId, Picture, Query, form_body, image_id, json_body
from sceneseek.client.reading import Unreadable, read
from sceneseek.errors import IndexChanged, InvalidRequest, ServiceError
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, DEFAULT_TEXT_WEIGHT

Document = TypeVar("Document")
Image = TypeVar("Image", bound=ImageDetails)

_PAGE = 50


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
        text_weight: float = DEFAULT_TEXT_WEIGHT,
        k: int = DEFAULT_K,
        offset: int = 0,
        shortlist: int = DEFAULT_SHORTLIST,
        min_score: float | None = None,
        filter: Filter | None = None,  # noqa: A002 - its name in the service
        keep_duplicates: bool = False,
        explain: bool = False,
    ) -> Answer:
        """The images that match best: by score; with an image by similarity to it, or to both.

        The arguments are the fields of `Query`; there must be a text or an image.

        Raises:
            InvalidRequest: it cannot be answered as it stands.
            NotFound: no indexed image has this id.
            ImageError, SourceError: the file is no picture that can be used, or cannot be read.
        """
        query = Query(text, image, text_weight, k, offset, shortlist, min_score, filter, keep_duplicates, explain)
        return self.ask(query)

    def ask(self, query: Query) -> Answer:
        """The answer to one query; see `search`."""
        return self._answer(self._post("/v1/search", query.body(), Answer))

    def search_many(self, queries: Sequence[str | Query]) -> list[Answer]:
        """The answers to several queries, in their order, all from one generation of the index.

        Raises:
            InvalidRequest: one of them cannot be answered, or there are more of them than the service takes.
            NotFound: see `search`.
        """
        asked = json_body({"queries": [_query(query).document() for query in queries]})
        reply = self._connection.ask("POST", "/v1/search", asked)
        found = self._json(reply.content, reply.media_type)
        answers = found.get("answers") if isinstance(found, dict) else None
        if not isinstance(answers, list) or len(answers) != len(queries):
            raise self._not_understood(f"there are not {len(queries)} answers")
        return [self._answer(self._document(answer, Answer)) for answer in answers]

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
            body = form_body([("q", text)], pictures)
        else:
            body = json_body({"q": text, "images": [image_id(image) for image in ids]})
        return self._post("/v1/score", body, Scores)

    def feedback(
        self, query: str, image: ImageId, rating: int, *, rater: str | None = None, key: str | None = None
    ) -> Feedback:
        """Say how well an image matches a query; kept for training.

        Args:
            query: the text that was searched.
            image: the id of a result.
            rating: from 1 (no match) to 4 (matches fully).
            rater: who says so, to tell people's ratings apart.
            key: what tells this rating from others: a rating whose key came before is not stored twice. One is made up
                where none is given, so that a repeated request is stored once.

        Raises:
            InvalidRequest: the rating is none.
            NotFound: no indexed image has this id.
        """
        rated: dict[str, Any] = {"query": query, "image": image_id(image), "rating": rating, "key": key or str(uuid4())}
        if rater is not None:
            rated["rater"] = rater
        return self._post("/v1/feedback", json_body(rated), Feedback)

    def collections(self) -> Collections:
        """The generations of the index, and which of them answers."""
        return self._get("/v1/collections", Collections)

    def details(self, image: ImageId) -> ImageDetails:
        """What the index knows of an image.

        Raises:
            NotFound: no indexed image has this id.
        """
        return self._reachable(self._get(f"/v1/images/{image_id(image)}/details", ImageDetails))

    def image(self, image: ImageId) -> bytes:
        """The original file.

        Raises:
            NotFound: no indexed image has this id, or its file has gone.
        """
        return self._connection.ask("GET", f"/v1/images/{image_id(image)}").content

    def thumbnail(self, image: ImageId) -> bytes:
        """A small JPEG of an image.

        Raises:
            NotFound: no indexed image has this id, or its file has gone.
        """
        return self._connection.ask("GET", f"/v1/images/{image_id(image)}/thumbnail").content

    def ready(self) -> Readiness:
        """What the service answers from, now that it can.

        Raises:
            ServiceError: it cannot answer, and says why.
        """
        return self._get("/readyz", Readiness)

    def _get(self, path: str, kind: type[Document]) -> Document:
        reply = self._connection.ask("GET", path)
        return self._document(self._json(reply.content, reply.media_type), kind)

    def _post(self, path: str, body: Body, kind: type[Document]) -> Document:
        reply = self._connection.ask("POST", path, body)
        return self._document(self._json(reply.content, reply.media_type), kind)

    def _json(self, content: bytes, media_type: str) -> object:
        try:
            found: object = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._not_understood(f"{media_type or 'what came'} is no JSON") from error
        return found

    def _document(self, value: object, kind: type[Document]) -> Document:
        try:
            return read(kind, value)
        except Unreadable as error:
            raise self._not_understood(str(error)) from error

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
