"""The requests of the HTTP API `/v1`, as frozen dataclasses; what they are answered with is in `sceneseek.api`.

    Query, QueryBatch   POST /v1/search
    ScoreRequest        POST /v1/score
    EmbeddingRequest    POST /v1/embeddings
    Rating              POST /v1/feedback
    ArchiveArguments    GET /v1/images/archive

A `Query` is by a text, an indexed image, a picture that comes along or a vector; or by several such `Term`s with
weights. Unknown fields are refused. The module loads pydantic and nothing that searches.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, PydanticCustomError

from sceneseek.errors import InvalidRequest, Unprocessable
from sceneseek.filters.conditions import Filter, field_path
from sceneseek.filters.document import filter_from_json
from sceneseek.filters.words import filter_from_words
from sceneseek.rating import HIGHEST, LOWEST
from sceneseek.request import (
    DEFAULT_K,
    DEFAULT_SHORTLIST,
    DEFAULT_TEXT_WEIGHT,
    MAX_K,
    MAX_QUERY_CHARACTERS,
    MAX_SHORTLIST,
    ONE,
    REFUSED,
    SEVERAL,
    checked_query,
    refusal,
)

Value = TypeVar("Value")
Picture: TypeAlias = Path | bytes
"""A file, or what it holds."""
Wanted: TypeAlias = str | UUID | Picture | tuple[str | UUID | Picture, float]
"""What a search is by, alone or with a weight; see `terms_of`."""

MAX_QUERIES = 32
MAX_IMAGES = 100
MAX_INPUTS = 1_024
MAX_NAME_CHARACTERS = 200
MAX_TERMS = 8
MAX_DIMENSIONS = 4_096

_REQUEST = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True)
# One of these must be there and not null.
_SEARCHABLE: ConfigDict = {
    **_REQUEST,
    "json_schema_extra": {
        "anyOf": [
            {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
            for name in ("q", "image", "vector", "terms")
        ]
    },
}


def _checked(check: Callable[..., Value]) -> Callable[..., Value]:
    """A validator of pydantic's from a function that raises `InvalidRequest`."""

    @functools.wraps(check)
    def validator(*values: Any) -> Value:
        try:
            return check(*values)
        except InvalidRequest as error:
            raise PydanticCustomError(REFUSED, "{what}", {"what": error.what, "hint": error.hint}) from None

    return validator


def _uuid(value: Any) -> Any:
    return str(_UUID.validate_python(value)) if isinstance(value, str | UUID) else value


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is as whole as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_UUID = TypeAdapter(UUID)
# What `checked_query` asks for, in the dialect that regular expressions share: no control characters but white space,
# and something that is no white space. Surrogates, which it refuses too, are in no text that is well-formed.
_CONTROL = r"\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f"
_SPACE = r"\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TEXT_PATTERN = f"^[^{_CONTROL}]*[^{_CONTROL}{_SPACE}][^{_CONTROL}]*$"

Text: TypeAlias = Annotated[
    str,
    AfterValidator(_checked(checked_query)),
    Field(
        description="A scene in words.",
        examples=["a dog jumping over a log"],
        # Stated here, and checked by `checked_query`, which says by how much.
        json_schema_extra={"minLength": 1, "maxLength": MAX_QUERY_CHARACTERS, "pattern": TEXT_PATTERN},
    ),
]
ImageId: TypeAlias = Annotated[str, BeforeValidator(_uuid), Field(json_schema_extra={"format": "uuid"})]
Word: TypeAlias = Annotated[str, Field(examples=["year>=1990"], json_schema_extra={"pattern": r"^\s*\{|[=<>@]"})]
FieldName: TypeAlias = Annotated[
    str,
    AfterValidator(_checked(lambda name: (field_path(name.removeprefix("-")), name)[1])),
    Field(max_length=MAX_NAME_CHARACTERS),
]
ShortText: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME_CHARACTERS,
        json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
    ),
]
# Beside a field's limits, after them: where it comes first, they are no part of the JSON Schema.
_WHOLE = BeforeValidator(_whole)
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Q = Field(validation_alias="q", serialization_alias="q")
# Little-endian float32 in base64, as the embeddings of OpenAI's API, or numbers.
_Base64: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=8 * MAX_DIMENSIONS, json_schema_extra={"format": "byte"})
]
_Numbers: TypeAlias = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1, max_length=MAX_DIMENSIONS)
]
_Vector: TypeAlias = _Numbers | _Base64
_Condition: TypeAlias = Annotated[dict[str, Any], WithJsonSchema({"$ref": "#/components/schemas/Condition"})]


@dataclass(frozen=True, config=_REQUEST)
class _Request:
    """A request: `HINTS` says by field what to do where it is refused, `EXAMPLE` what to send."""

    HINTS: ClassVar[Mapping[str, str]] = {}
    EXAMPLE: ClassVar[str] = ""

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_sentence(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Raise `InvalidRequest` where a request is made in Python; `read_json` does so for the whole of a body."""
        try:
            return handler(value)
        except ValidationError as error:
            if isinstance(value, ArgsKwargs):
                raise refusal(error, cls) from None
            raise


@dataclass(frozen=True, config=_REQUEST)
class Term(_Request):
    """One of several things to search by, with its weight.

    Attributes:
        text: a scene in words.
        image: the id of an indexed image, which is no result itself.
        file: the number of a picture that comes along, from 0.
        vector: in the joint space, see `Query`.
        weight: beside the other terms, -1 to 1 and not 0; what resembles a term of negative weight comes later.

    Raises:
        InvalidRequest: there is not one of the four, or no weight.
    """

    HINTS: ClassVar[Mapping[str, str]] = {
        "text": "describe a scene in a few words, such as: a dog jumping over a log",
        "image": "name an image by the id that a result has",
        "file": "count the pictures of the form from 0",
        "vector": "send the numbers of an embedding of this service, or their bytes in base64",
        "weight": "weights are from -1 to 1, and not 0",
    }
    EXAMPLE: ClassVar[str] = (
        'a term is an object such as {"text": "sunset", "weight": 0.5}, or words: sunset:0.5, -people'
    )

    text: Text | None = None
    image: ImageId | None = None
    file: Annotated[
        int | None, Field(ge=0, lt=MAX_TERMS, description="Of a form, the picture of this number."), _WHOLE
    ] = None
    vector: _Vector | None = None
    weight: Annotated[
        float, Field(ge=-1, le=1, allow_inf_nan=False, description="Negative: like this comes later. Not 0.")
    ] = 1.0

    def __post_init__(self) -> None:
        _checked(_check_term)(self)

    def in_words(self) -> str:
        """A term with a text, for people; most are read as the same by `term_from_words`."""
        share = f"{abs(self.weight):.4f}".rstrip("0")
        return f"{'-' if self.weight < 0 else ''}{self.text}{'' if share == '1.' else f':{share}'}"


def _check_term(term: Term) -> None:
    given = [each for each in (term.text, term.image, term.file, term.vector) if each is not None]
    if len(given) != 1:
        raise InvalidRequest(f"a term has {len(given) or 'none'} of text, image, file and vector", Term.EXAMPLE)
    if not term.weight:
        raise InvalidRequest("the weight of a term is 0", Term.HINTS["weight"])


_SHARE = r":(0?\.[0-9]+|1(?:\.0+)?)"
_WEIGHT = re.compile(rf"{_SHARE}$", re.ASCII)
_FILE = re.compile(rf"file:([0-7])(?:{_SHARE})?", re.ASCII)


def weighed(words: str) -> tuple[str, float]:
    """Words without the ``:WEIGHT`` that they may end with, a number up to 1, and that weight or 1."""
    words = words.strip()
    found = _WEIGHT.search(words)
    return (words[: found.start()], float(found[1])) if found else (words, 1.0)


def term_from_words(words: str, sign: Literal[-1, 1] = 1) -> Term:
    """A term in words: a text, the id of an image or ``file:NUMBER``, and ``:WEIGHT`` after it.

    Args:
        words: such as ``sunset`` or ``sunset:0.5``.
        sign: of the weight.

    Raises:
        InvalidRequest: there are no words, the weight is 0, or the text cannot be searched.
    """
    if file := _FILE.fullmatch(words.strip()):
        return Term(file=int(file[1]), weight=sign * float(file[2] or 1))
    what, weight = weighed(words)
    return _term_of(what, sign * weight)


def terms_of(plus: Iterable[Wanted], minus: Iterable[Wanted], pictures: list[Picture]) -> list[Term]:
    """Terms of what a person names, with positive and with negative weights.

    Args:
        plus: texts, ids of indexed images, and pictures, each alone or with a weight up to 1.
        minus: likewise.
        pictures: those among them are added here, and named by their numbers.

    Raises:
        InvalidRequest: see `Term`.
    """
    terms = []
    for sign, each in [*((1, each) for each in plus), *((-1, each) for each in minus)]:
        what, weight = each if isinstance(each, tuple) else (each, 1.0)
        if isinstance(what, Picture):
            terms.append(Term(file=len(pictures), weight=sign * weight))
            pictures.append(what)
        else:
            terms.append(_term_of(str(what), sign * weight))
    return terms


def _term_of(what: str, weight: float) -> Term:
    """A term of an id, or else a text."""
    try:
        return Term(image=str(UUID(what)), weight=weight)
    except ValueError:
        return Term(text=what, weight=weight)


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("a term begins as JSON, and is none", Term.EXAMPLE) from None


def _term(value: Any) -> Any:
    """A term of JSON as it is; one in words, or in JSON where a query string has no objects, as an object."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return _checked(_object)(value)
    words = value.lstrip()
    return _checked(term_from_words)(*((words[1:], -1) if words.startswith("-") else (words,)))


_Terms: TypeAlias = Annotated[
    list[
        Annotated[
            Term,
            BeforeValidator(_term),
            WithJsonSchema({"anyOf": [{"$ref": "#/components/schemas/Term"}, {"type": "string", "minLength": 1}]}),
        ]
    ],
    Field(min_length=1, max_length=MAX_TERMS),
]


_TermsInWords: TypeAlias = Annotated[
    list[Annotated[Term, BeforeValidator(_term), WithJsonSchema({"type": "string", "minLength": 1})]],
    Field(min_length=1, max_length=MAX_TERMS),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One thing to search by, and its weight.

    Attributes:
        weight: 0 only beside another part.
        text: or
        image: an id, or the number of a picture that comes beside the query; or
        vector: numbers, or float32 in base64.
    """

    weight: float
    text: str | None = None
    image: str | int | None = None
    vector: str | Sequence[float] | None = None


@dataclass(frozen=True, config=_SEARCHABLE)
class Query(_Request):
    """One search: by a text, an image, both, or several terms; pictures may come beside it.

    Attributes:
        text: a scene in words, in Unicode's composed form; `q` in JSON.
        image: the id of an indexed image, which is no result itself.
        vector: D numbers in the joint space, such as an embedding of the service, or their bytes (float32,
            little-endian) in base64; of any length but 0.
        text_weight: the text's share, 0 to 1, where there is an image or a vector too.
        terms: further texts, images, pictures and vectors, each with a weight beside those above.
        k: how many results, 1 to `MAX_K`.
        offset: how many results of the same query come before them, less than `MAX_SHORTLIST`, where every answer ends.
        shortlist: how many nearest neighbours are reranked, 1 to `MAX_SHORTLIST`; never fewer than k.
        min_score: results of a lower score are left out; only the candidates are looked through for others.
        filter: a condition as JSON has it, or conditions in short words that must all hold.
        sort: a field of the metadata; what matches comes in its order, with ``-`` before it from the greatest, and
            images without it last. Where not all is text, all candidates come so.
        keep_duplicates: whether near-duplicates of a better result are results of their own.
        explain: whether each result says how it came to its rank.

    Raises:
        InvalidRequest: a value is not of its kind or out of its range, a condition cannot be understood, or there is a
            `min_score` without a text.
    """

    HINTS: ClassVar[Mapping[str, str]] = {
        "q": "describe a scene in a few words, such as: a dog jumping over a log",
        "image": "name an image by the id that a result has",
        "vector": "send the numbers of an embedding of this service, or their bytes in base64",
        "terms": Term.EXAMPLE,
        "text_weight": "give the text's share beside the image from 0 (the image alone) to 1",
        "k": f"ask for 1 to {MAX_K:,} results",
        "offset": f"skip 0 to {MAX_SHORTLIST - 1:,} results",
        "shortlist": f"have 1 to {MAX_SHORTLIST:,} nearest neighbours scored",
        "min_score": "scores are from 0 to 1",
        "filter": 'send a condition such as {"field": "year", "gte": 1990}',
        "sort": "name a field of the metadata, such as taken, or -taken for the newest first",
        "keep_duplicates": "true shows near-duplicates of a better result too, false (the default) folds them into it",
        "explain": "true says of each result how rescoring moved it",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"q": "a dog jumping over a log", "k": 5}'

    text: Annotated[Text | None, _Q] = None
    image: Annotated[
        ImageId | None, Field(description="Search by this indexed image, alone or together with a text.")
    ] = None
    vector: Annotated[
        _Vector | None, Field(description="Search by this vector of the joint space: numbers, or float32 in base64.")
    ] = None
    text_weight: Annotated[_Share, Field(description="The text's share beside an image.")] = DEFAULT_TEXT_WEIGHT
    terms: Annotated[
        _Terms | None,
        Field(
            description="Further things to search by, each with a weight.",
            examples=[[{"text": "sunset", "weight": 0.5}, "-people"]],
        ),
    ] = None
    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many results."), _WHOLE] = DEFAULT_K
    offset: Annotated[
        int, Field(ge=0, lt=MAX_SHORTLIST, description="How many results of the same search come before them."), _WHOLE
    ] = 0
    shortlist: Annotated[
        int,
        Field(ge=1, le=MAX_SHORTLIST, description="How many nearest neighbours are scored; never fewer than k."),
        _WHOLE,
    ] = DEFAULT_SHORTLIST
    min_score: Annotated[
        _Share | None, Field(description="Leave out what of the shortlist has a lower score; needs a text.")
    ] = None
    filter: Annotated[
        _Condition | list[Word] | None,
        Field(
            description="A condition, or conditions in short words that must all hold.",
            examples=[{"field": "year", "gte": 1990}],
        ),
    ] = None
    sort: Annotated[
        FieldName | None,
        Field(
            description="Order what matches by this field of the metadata, with `-` from the greatest; else by score.",
            examples=["taken", "-taken"],
        ),
    ] = None
    keep_duplicates: Annotated[bool, Field(description="Show near-duplicates of a better result too.")] = False
    explain: Annotated[bool, Field(description="Say of each result how it came to its rank.")] = False

    def __post_init__(self) -> None:
        _checked(_check_consistency)(self)

    @functools.cached_property
    def where(self) -> Filter | None:
        """The filter as the store takes it."""
        if isinstance(self.filter, dict):
            return filter_from_json(self.filter)
        return filter_from_words(self.filter or ())

    @functools.cached_property
    def images(self) -> tuple[str, ...]:
        """The ids of the indexed images that it is by."""
        return tuple(image for image in (self.image, *(term.image for term in self.terms or ())) if image is not None)

    @property
    def words(self) -> str | None:
        """The texts that scores are of: the text, and those of the terms with their weights; None without one."""
        texts = [self.text, *(term.in_words() for term in self.terms or () if term.text is not None)]
        return ", ".join(filter(None, texts)) or None

    def parts(self, pictures: int = 0) -> tuple[Part, ...]:
        """What is searched by: the fields, then the terms.

        Args:
            pictures: how many pictures come beside the query; one that no term names is like the field `image`.

        Raises:
            InvalidRequest: there is nothing to search by.
            Unprocessable: there is only what shall come later; two of image, picture and vector have no weights of
                their own; or the terms name other pictures than those that came.
        """
        terms = [
            Part(term.weight, term.text, term.file if term.image is None else term.image, term.vector)
            for term in self.terms or ()
        ]
        named = {term.image for term in terms if isinstance(term.image, int)}
        if named - set(range(pictures)):
            raise Unprocessable(
                f"a term names picture {max(named)}, and {pictures or 'none'} came along",
                'name pictures by their numbers, from 0: {"file": 0, "weight": 0.5}',
            )
        alike = [
            *([Part(1.0, image=self.image)] if self.image is not None else []),
            *(Part(1.0, image=number) for number in range(pictures) if number not in named),
            *([Part(1.0, vector=self.vector)] if self.vector is not None else []),
        ]
        if len(alike) > 1:
            raise Unprocessable("there are two images to search by", "give each a weight, as one of the terms")
        text = [] if self.text is None else [Part(1.0, text=self.text)]
        if text and alike:
            text, alike = [replace(text[0], weight=self.text_weight)], [replace(alike[0], weight=1 - self.text_weight)]
        found = (*text, *alike, *terms)
        if not found:
            raise InvalidRequest("the field q is missing", self.HINTS["q"])
        if all(part.weight < 0 for part in found):
            raise Unprocessable("all weights are negative", "say what to search for too, with a weight over 0")
        return found

    def by_similarity(self, pictures: int = 0) -> bool:
        """Whether results come by their similarity, not by their scores: where not all is text."""
        return any(part.text is None for part in self.parts(pictures))


def _check_consistency(query: Query) -> None:
    scored = query.text is not None or any(term.text and term.weight > 0 for term in query.terms or ())
    if query.min_score is not None and not scored:
        raise InvalidRequest("min_score is given without a text", "scores are of texts: leave it out, or add a text")
    _ = query.where  # parsed once, so that a condition that cannot be understood is refused now


@dataclass(frozen=True, config=_REQUEST)
class QueryArguments(Query):
    """A search in a query string, or in a form beside uploaded pictures."""

    vector: Annotated[
        _Base64 | None,
        Field(description="Search by this vector of the joint space: float32, little-endian, in base64."),
    ] = None
    terms: Annotated[
        _TermsInWords | None,
        Field(description="Further things to search by: `sunset:0.5`, `-people`; ids, `file:0`, or JSON."),
    ] = None
    filter: Annotated[
        list[Word] | None,
        Field(description="Conditions in short words, such as `year>=1990`; may be repeated, all must hold."),
    ] = None


@dataclass(frozen=True, config=_REQUEST)
class QueryBatch(_Request):
    """Several searches, answered together and from the same generation."""

    HINTS: ClassVar[Mapping[str, str]] = {**Query.HINTS, "queries": f"send 1 to {MAX_QUERIES} searches"}
    EXAMPLE: ClassVar[str] = Query.EXAMPLE

    queries: Annotated[list[Query], Field(min_length=1, max_length=MAX_QUERIES)]


@dataclass(frozen=True, config=_REQUEST)
class ScoreRequest(_Request):
    """A text, and the ids of indexed images to score it for."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "q": Query.HINTS["q"],
        "images": f"name 1 to {MAX_IMAGES} images by the ids that results have",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"q": "a dog jumping over a log", "images": ["ID"]}'

    text: Annotated[Text, _Q]
    images: Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IMAGES)]


_Name: TypeAlias = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]


@dataclass(frozen=True, config=_REQUEST)
class EmbeddingForm(_Request):
    """What to embed pictures as; see `EmbeddingRequest`."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "model": "give the name of the service's pack, or leave it out",
        "encoding_format": "write float or base64",
        "dimensions": "leave it out: vectors have the width of the joint space",
        "user": "name a user in a few words, or leave it out",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"input": ["a dog jumping over a log"], "model": "compact"}'

    model: Annotated[_Name | None, Field(description="The name of the service's pack.")] = None
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="Numbers, or float32, little-endian, in base64.")
    ] = "float"
    dimensions: Annotated[int | None, Field(ge=1, description="The width of the joint space."), _WHOLE] = None
    user: Annotated[_Name | None, Field(description="Ignored.")] = None


# Told apart by what came, so that a flaw of a list is not reported as that of a text.
_Texts: TypeAlias = Annotated[
    Annotated[Text, Tag(ONE)] | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS), Tag(SEVERAL)],
    Discriminator(lambda value: SEVERAL if isinstance(value, list) else ONE),
]


@dataclass(frozen=True, config=_REQUEST, kw_only=True)
class EmbeddingRequest(EmbeddingForm):
    """Texts to embed, as OpenAI's clients send them: https://platform.openai.com/docs/api-reference/embeddings."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "input": f"send a text, or a list of 1 to {MAX_INPUTS:,} texts; tokens are not read",
        **EmbeddingForm.HINTS,
    }

    input: Annotated[_Texts, Field(description="One text or several.")]

    @property
    def texts(self) -> list[str]:
        """The texts."""
        return [self.input] if isinstance(self.input, str) else self.input


@dataclass(frozen=True, config=_REQUEST)
class ArchiveArguments(_Request):
    """The ids of images whose files are wanted together."""

    HINTS: ClassVar[Mapping[str, str]] = {"id": f"name 1 to {MAX_IMAGES} images by the ids that results have"}
    EXAMPLE: ClassVar[str] = "ask for ?id=ID&id=ID"

    id: Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IMAGES, description="May be repeated.")]


@dataclass(frozen=True, config=_REQUEST)
class ScoreForm(_Request):
    """A text, beside pictures to score it for."""

    HINTS: ClassVar[Mapping[str, str]] = {"q": Query.HINTS["q"]}
    EXAMPLE: ClassVar[str] = ScoreRequest.EXAMPLE

    text: Annotated[Text, _Q]


@dataclass(frozen=True, config=_REQUEST)
class Rating(_Request):
    """A rating of how well an image matches a text.

    Attributes:
        query: the text that was searched for.
        image: the id of the result.
        rating: 1 (does not match) to 4 (matches fully).
        rater: who rates; of one rater's ratings of a pair the last counts.
        key: tells this rating from others; one sent twice with the same key is stored once.
    """

    HINTS: ClassVar[Mapping[str, str]] = {
        "query": "say what was searched for",
        "image": "name the image by the id that its result has",
        "rating": "rate from 1 (does not match) to 4 (matches fully)",
        "rater": f"name who rates, in at most {MAX_NAME_CHARACTERS} characters",
        "key": f"give each rating a key of its own, in at most {MAX_NAME_CHARACTERS} characters",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"query": "a lighthouse", "image": "ID", "rating": 4}'

    query: Text
    image: ImageId
    rating: Annotated[
        int,
        Field(
            ge=LOWEST,
            le=HIGHEST,
            description="1 does not match, 2 shares elements, 3 matches but for details, 4 matches fully.",
        ),
        _WHOLE,
    ]
    rater: Annotated[
        ShortText | None, Field(description="Who rates: of one rater's ratings of a pair the last counts.")
    ] = None
    key: Annotated[ShortText | None, Field(description="Sent again with the same key, a rating is stored once.")] = None
