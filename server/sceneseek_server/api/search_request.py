"""What a client may ask of `/v1/search`, in a query string, a form or a JSON body, or one sentence why not."""

from __future__ import annotations

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from werkzeug.datastructures import MultiDict

from sceneseek.errors import InvalidRequest
from sceneseek.filters import Filter, filter_from_json, filter_from_words
from sceneseek.picture import Picture
from sceneseek.request import (
    DEFAULT_K,
    DEFAULT_SHORTLIST,
    DEFAULT_TEXT_WEIGHT,
    MAX_K,
    MAX_QUERY_CHARACTERS,
    MAX_SHORTLIST,
    Query,
)
from sceneseek_server.api.refusal import refusal, shown

MAX_QUERIES = 32

_HINTS = {
    "q": "describe a scene in a few words, such as: a dog jumping over a log",
    "image": "name an image by the id that a result has",
    "text_weight": "give the text's share beside the image from 0 (the image alone) to 1",
    "k": f"ask for 1 to {MAX_K:,} results",
    "offset": f"skip 0 to {MAX_SHORTLIST - 1:,} results",
    "shortlist": f"have 1 to {MAX_SHORTLIST:,} nearest neighbours scored",
    "min_score": "scores are from 0 to 1",
    "filter": 'send a condition such as {"field": "year", "gte": 1990}',
    "keep_duplicates": "true shows near-duplicates of a better result too, false (the default) folds them into it",
    "explain": "true says of each result how rescoring moved it",
}
_KINDS = {
    "q": "text",
    "image": "an id",
    "text_weight": "a number",
    "min_score": "a number",
    "filter": "an object",
    "keep_duplicates": "true or false",
    "explain": "true or false",
    "queries": "a list",
}
_BODY = 'send a JSON object such as {"q": "a dog jumping over a log", "k": 5}'
# Fields that forms send empty when nothing was filled in.
_NOT_GIVEN_IF_EMPTY = frozenset(_HINTS) - {"q", "filter"}

# What `checked_query` asks for, in the dialect that regular expressions share: no control characters but white space,
# and something that is no white space. Surrogates, which it refuses too, are in no text that is well-formed.
_CONTROL = r"\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f"
_SPACE = r"\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TEXT_PATTERN = f"^[^{_CONTROL}]*[^{_CONTROL}{_SPACE}][^{_CONTROL}]*$"

Text = Annotated[
    str,
    Field(
        description="A scene in words.",
        examples=["a dog jumping over a log"],
        # Stated here, and checked by `checked_query`, which says by how much.
        json_schema_extra={"minLength": 1, "maxLength": MAX_QUERY_CHARACTERS, "pattern": TEXT_PATTERN},
    ),
]
Word = Annotated[str, Field(examples=["year>=1990"], json_schema_extra={"pattern": r"^\s*\{|[=<>@]"})]


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is as whole as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Beside a field's limits, after them: where it comes first, they are no part of the JSON Schema.
WHOLE = BeforeValidator(_whole)
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Search(BaseModel):
    """The fields that a search has in any form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: Text | None = None
    image: Annotated[UUID | None, Field(description="Search by this indexed image, alone or together with a text.")] = (
        None
    )
    text_weight: Annotated[Share, Field(description="The text's share beside an image.")] = DEFAULT_TEXT_WEIGHT
    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many results."), WHOLE] = DEFAULT_K
    offset: Annotated[
        int, Field(ge=0, lt=MAX_SHORTLIST, description="How many results of the same search come before them."), WHOLE
    ] = 0
    shortlist: Annotated[
        int,
        Field(ge=1, le=MAX_SHORTLIST, description="How many nearest neighbours are scored; never fewer than k."),
        WHOLE,
    ] = DEFAULT_SHORTLIST
    min_score: Annotated[
        Share | None, Field(description="Leave out what of the shortlist has a lower score; needs a text.")
    ] = None
    keep_duplicates: Annotated[bool, Field(description="Show near-duplicates of a better result too.")] = False
    explain: Annotated[bool, Field(description="Say of each result how it came to its rank.")] = False

    def query(self, where: Filter | None, picture: Picture | None = None) -> Query:
        """What the pipeline takes.

        Raises:
            InvalidRequest: it is no search: see `Query`.
        """
        if picture is not None and self.image is not None:
            raise InvalidRequest("there are two images to search by", "send a file or name an id")
        if self.q is None and self.image is None and picture is None:
            raise InvalidRequest("the field q is missing", _HINTS["q"])
        return Query(
            text=self.q,
            image=picture if self.image is None else str(self.image),
            text_weight=self.text_weight,
            k=self.k,
            offset=self.offset,
            shortlist=self.shortlist,
            min_score=self.min_score,
            where=where,
            keep_duplicates=self.keep_duplicates,
            explain=self.explain,
        )


class SearchArguments(_Search):
    """A search in a query string, or in a form beside an uploaded picture."""

    filter: Annotated[
        tuple[Word, ...],
        Field(description="Conditions in short words, such as `year>=1990`; may be repeated, all must hold."),
    ] = ()

    @classmethod
    def read(cls, arguments: MultiDict[str, str]) -> Self:
        """Read one; a field but `q` left empty, as forms send it, is not given.

        Raises:
            InvalidRequest: a field is unknown, given twice, or not of its kind.
        """
        fields: dict[str, Any] = {}
        for name, values in arguments.lists():
            if name == "filter":
                fields[name] = tuple(value for value in values if value)
                continue
            if len(values) > 1:
                raise InvalidRequest(f"{shown(name, '')} is given {len(values)} times", "give it once")
            if values[0] or name not in _NOT_GIVEN_IF_EMPTY:
                fields[name] = values[0]
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise refusal(error, _HINTS, _KINDS, _BODY) from None

    def asked(self, picture: Picture | None = None) -> Query:
        """The search.

        Raises:
            InvalidRequest: see `query`; or a condition cannot be understood.
        """
        return self.query(filter_from_words(self.filter), picture)


class SearchBody(_Search):
    """A search in a JSON body, where a number is a number."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in ("q", "image")]
        }
    )

    filter: Annotated[
        Annotated[dict[str, Any], WithJsonSchema({"$ref": "#/components/schemas/Condition"})] | list[Word] | None,
        Field(
            description="A condition, or conditions in short words that must all hold.",
            examples=[{"field": "year", "gte": 1990}],
        ),
    ] = None

    def asked(self) -> Query:
        """The search.

        Raises:
            InvalidRequest: see `query`; or a condition cannot be understood.
        """
        if isinstance(self.filter, list):
            return self.query(filter_from_words(tuple(self.filter)))
        return self.query(None if self.filter is None else filter_from_json(self.filter))


class SearchesBody(BaseModel):
    """Several searches, answered together and from the same generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queries: Annotated[list[SearchBody], Field(min_length=1, max_length=MAX_QUERIES)]


def read_body(body: bytes) -> tuple[list[Query], bool]:
    """The searches of a JSON body, and whether it was a list of them.

    Raises:
        InvalidRequest: the body is not a JSON object of one of the two forms; the first flaw, named with its place.
    """
    try:
        one = SearchBody.model_validate_json(body, strict=True)
    except ValidationError as error:
        if not any(flaw["loc"][:1] == ("queries",) for flaw in error.errors(include_url=False, include_input=False)):
            raise refusal(error, _HINTS, _KINDS, _BODY) from None
    else:
        return [one.asked()], False
    try:
        several = SearchesBody.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise refusal(error, _HINTS | {"queries": f"send 1 to {MAX_QUERIES} searches"}, _KINDS, _BODY) from None
    queries = []
    for number, search in enumerate(several.queries):
        try:
            queries.append(search.asked())
        except InvalidRequest as error:
            raise InvalidRequest(f"queries[{number}]: {error.what}", error.hint) from None
    return queries, True
