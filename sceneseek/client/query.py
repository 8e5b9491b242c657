"""What a client asks: one search, as the service's JSON or form has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from urllib3 import encode_multipart_formdata

from sceneseek.errors import InvalidRequest, SourceError
from sceneseek.request import DEFAULT_K, DEFAULT_SHORTLIST, DEFAULT_TEXT_WEIGHT

ImageId: TypeAlias = str | UUID
Picture: TypeAlias = Path | bytes
"""A file, or what it holds."""
Filter: TypeAlias = Mapping[str, Any] | Sequence[str] | str
"""A condition as JSON has it, or one or several in short words, such as ``year>=1990``, that must all hold."""

_FILE_PART = "file"


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body."""

    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Query:
    """One search. The numbers' ranges are the service's to check.

    Attributes:
        text: a scene in words.
        image: what the results shall look like: the id of an indexed image, a file, or what it holds.
        text_weight: the text's share, 0 to 1, where there is an image too.
        k: how many results.
        offset: how many results of the same search come before them.
        shortlist: how many nearest neighbours to score.
        min_score: results of a lower score are left out.
        filter: only images that satisfy this are found at all; beside a file, in short words.
        keep_duplicates: whether near-duplicates of a better result are results of their own.
        explain: whether each result says how it came to its rank.
    """

    text: str | None = None
    image: ImageId | Picture | None = None
    text_weight: float = DEFAULT_TEXT_WEIGHT
    k: int = DEFAULT_K
    offset: int = 0
    shortlist: int = DEFAULT_SHORTLIST
    min_score: float | None = None
    filter: Filter | None = None
    keep_duplicates: bool = False
    explain: bool = False

    def body(self) -> Body:
        """The body of the request that asks for this alone.

        Raises:
            InvalidRequest: it cannot be written down.
            SourceError: the file cannot be read.
        """
        if not isinstance(self.image, Path | bytes):
            return json_body(self.document())
        if isinstance(self.filter, Mapping):
            raise InvalidRequest("the filter beside a picture is an object", 'write it in words: "year>=1990"')
        fields = self._fields()
        words = fields.pop("filter", [])
        return form_body([*fields.items(), *(("filter", condition) for condition in words)], [self.image])

    def document(self) -> dict[str, Any]:
        """The search as JSON has it.

        Raises:
            InvalidRequest: it is by a picture that would have to be sent along, or by an id that is none.
        """
        if isinstance(self.image, Path | bytes):
            raise InvalidRequest("a picture is sent with one search alone", "search by it on its own, or name its id")
        image = {} if self.image is None else {"image": image_id(self.image)}
        return {**self._fields(), **image}

    def _fields(self) -> dict[str, Any]:
        """All but the image; what is not asked for is left out."""
        fields: dict[str, Any] = {"k": self.k, "shortlist": self.shortlist}
        if self.text is not None:
            fields["q"] = self.text
        if self.image is not None:
            fields["text_weight"] = self.text_weight
        if self.offset:
            fields["offset"] = self.offset
        if self.min_score is not None:
            fields["min_score"] = self.min_score
        if self.filter:
            fields["filter"] = _filter(self.filter)
        if self.keep_duplicates:
            fields["keep_duplicates"] = True
        if self.explain:
            fields["explain"] = True
        return fields


def image_id(image: ImageId) -> str:
    """The id of an indexed image, in the form that the service has it.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return str(image if isinstance(image, UUID) else UUID(image))
    except (ValueError, AttributeError, TypeError):
        hint = "name an image by the id that a result has; give a file as a pathlib.Path"
        raise InvalidRequest(f"{str(image)[:60]!r} is no id of an image", hint) from None


def json_body(document: Mapping[str, Any]) -> Body:
    """A JSON body.

    Raises:
        InvalidRequest: something in it is no JSON.
    """
    try:
        return Body(json.dumps(document, allow_nan=False).encode("ascii"), "application/json")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request cannot be written as JSON ({error})", "use plain values") from error


def form_body(fields: Sequence[tuple[str, Any]], pictures: Sequence[Picture]) -> Body:
    """A form with pictures. Their names stay here: what a file is called is nobody's business.

    Raises:
        InvalidRequest: a text cannot be sent.
        SourceError: a file cannot be read.
    """
    parts: list[tuple[str, Any]] = [(name, _form_value(value)) for name, value in fields]
    parts += [(_FILE_PART, ("picture", content_of(picture), "application/octet-stream")) for picture in pictures]
    content, media_type = encode_multipart_formdata(parts)
    return Body(content, media_type)


def _form_value(value: Any) -> bytes:
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest("a text of the request holds half a character", "remove it and ask again") from error


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


def _filter(given: Filter) -> dict[str, Any] | list[str]:
    if isinstance(given, str):
        return [given]
    return dict(given) if isinstance(given, Mapping) else list(given)
