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

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)
from pydantic.dataclasses import dataclass

from sceneseek.errors import InvalidRequest, Unprocessable
from sceneseek.filters.conditions import Filter, field_path
from sceneseek.filters.document import filter_from_json
from sceneseek.filters.words import filter_from_words
from sceneseek.request import (
    DEFAULT_K,
    DEFAULT_SHORTLIST,
    DEFAULT_TEXT_WEIGHT,
    HIGHEST,
    LOWEST,
    MAX_K,
    MAX_SHORTLIST,
    ONE,
    SEVERAL,
)
from sceneseek.terms import (
    REQUEST,
    WHOLE,
    Base64,
    ImageId,
    Part,
    Request,
    Term,
    Terms,
    TermsInWords,
    Text,
    Vector,
    checked,
)

MAX_QUERIES = 32
MAX_IMAGES = 100
MAX_INPUTS = 1_024
MAX_NAME_CHARACTERS = 200

# One of these must be there and not null.
_SEARCHABLE: ConfigDict = {
    **REQUEST,
    "json_schema_extra": {
        "anyOf": [
            {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
            for name in ("q", "image", "vector", "terms")
        ]
    },
}


Word: TypeAlias = Annotated[str, Field(examples=["year>=1990"], json_schema_extra={"pattern": r"^\s*\{|[=<>@]"})]
FieldName: TypeAlias = Annotated[
    str,
    AfterValidator(checked(lambda name: (field_path(name.removeprefix("-")), name)[1])),
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
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Q = Field(validation_alias="q", serialization_alias="q")
_Condition: TypeAlias = Annotated[dict[str, Any], WithJsonSchema({"$ref": "#/components/schemas/Condition"})]


@dataclass(frozen=True, config=_SEARCHABLE)
class Query(Request):
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
        Vector | None, Field(description="Search by this vector of the joint space: numbers, or float32 in base64.")
    ] = None
    text_weight: Annotated[_Share, Field(description="The text's share beside an image.")] = DEFAULT_TEXT_WEIGHT
    terms: Annotated[
        Terms | None,
        Field(
            description="Further things to search by, each with a weight.",
            examples=[[{"text": "sunset", "weight": 0.5}, "-people"]],
        ),
    ] = None
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
        checked(_check_consistency)(self)

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


@dataclass(frozen=True, config=REQUEST)
class QueryArguments(Query):
    """A search in a query string, or in a form beside uploaded pictures."""

    vector: Annotated[
        Base64 | None,
        Field(description="Search by this vector of the joint space: float32, little-endian, in base64."),
    ] = None
    terms: Annotated[
        TermsInWords | None,
        Field(description="Further things to search by: `sunset:0.5`, `-people`; ids, `file:0`, or JSON."),
    ] = None
    filter: Annotated[
        list[Word] | None,
        Field(description="Conditions in short words, such as `year>=1990`; may be repeated, all must hold."),
    ] = None


@dataclass(frozen=True, config=REQUEST)
class QueryBatch(Request):
    """Several searches, answered together and from the same generation."""

    HINTS: ClassVar[Mapping[str, str]] = {**Query.HINTS, "queries": f"send 1 to {MAX_QUERIES} searches"}
    EXAMPLE: ClassVar[str] = Query.EXAMPLE

    queries: Annotated[list[Query], Field(min_length=1, max_length=MAX_QUERIES)]


@dataclass(frozen=True, config=REQUEST)
class ScoreRequest(Request):
    """A text, and the ids of indexed images to score it for."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "q": Query.HINTS["q"],
        "images": f"name 1 to {MAX_IMAGES} images by the ids that results have",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"q": "a dog jumping over a log", "images": ["ID"]}'

    text: Annotated[Text, _Q]
    images: Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IMAGES)]


_Name: TypeAlias = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]


@dataclass(frozen=True, config=REQUEST)
class EmbeddingForm(Request):
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
    dimensions: Annotated[int | None, Field(ge=1, description="The width of the joint space."), WHOLE] = None
    user: Annotated[_Name | None, Field(description="Ignored.")] = None


# Told apart by what came, so that a flaw of a list is not reported as that of a text.
_Texts: TypeAlias = Annotated[
    Annotated[Text, Tag(ONE)] | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS), Tag(SEVERAL)],
    Discriminator(lambda value: SEVERAL if isinstance(value, list) else ONE),
]


@dataclass(frozen=True, config=REQUEST, kw_only=True)
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


@dataclass(frozen=True, config=REQUEST)
class ArchiveArguments(Request):
    """The ids of images whose files are wanted together."""

    HINTS: ClassVar[Mapping[str, str]] = {"id": f"name 1 to {MAX_IMAGES} images by the ids that results have"}
    EXAMPLE: ClassVar[str] = "ask for ?id=ID&id=ID"

    id: Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IMAGES, description="May be repeated.")]


@dataclass(frozen=True, config=REQUEST)
class ScoreForm(Request):
    """A text, beside pictures to score it for."""

    HINTS: ClassVar[Mapping[str, str]] = {"q": Query.HINTS["q"]}
    EXAMPLE: ClassVar[str] = ScoreRequest.EXAMPLE

    text: Annotated[Text, _Q]


@dataclass(frozen=True, config=REQUEST)
class Rating(Request):
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
        WHOLE,
    ]
    rater: Annotated[
        ShortText | None, Field(description="Who rates: of one rater's ratings of a pair the last counts.")
    ] = None
    key: Annotated[ShortText | None, Field(description="Sent again with the same key, a rating is stored once.")] = None
