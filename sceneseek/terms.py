"""The terms of a query: texts, indexed images, uploaded pictures and vectors, each with a weight.

A `Term` is part of a request, in JSON or in short form (``sunset:0.5``, ``-people``); a `Part` is the input of the
search pipeline. The module also contains the base class and the field types of the requests in `sceneseek.queries`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, PydanticCustomError

from sceneseek.errors import InvalidRequest
from sceneseek.request import MAX_QUERY_CHARACTERS, REFUSED, checked_query, refusal

Value = TypeVar("Value")
Picture: TypeAlias = Path | bytes
"""The path or the content of a picture file."""
Wanted: TypeAlias = str | UUID | Picture | tuple[str | UUID | Picture, float]
"""A text, an image id or a picture, alone or with a weight; see `terms_of`."""

MAX_TERMS = 8
MAX_DIMENSIONS = 4_096

REQUEST = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True)


def checked(check: Callable[..., Value]) -> Callable[..., Value]:
    """Make a pydantic validator of a function that raises `InvalidRequest`."""

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
    """Accept 5.0 as 5: JSON does not distinguish integers from other numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_UUID = TypeAdapter(UUID)
# The rules of `checked_query` as a portable regular expression: no control characters except white space, and at least
# one other character. `checked_query` also rejects surrogates, which well-formed text does not contain.
_CONTROL = r"\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f"
_SPACE = r"\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TEXT_PATTERN = f"^[^{_CONTROL}]*[^{_CONTROL}{_SPACE}][^{_CONTROL}]*$"

Text: TypeAlias = Annotated[
    str,
    AfterValidator(checked(checked_query)),
    Field(
        description="Description of a scene.",
        examples=["a dog jumping over a log"],
        # For the schema only: `checked_query` enforces these limits with a better message.
        json_schema_extra={"minLength": 1, "maxLength": MAX_QUERY_CHARACTERS, "pattern": TEXT_PATTERN},
    ),
]
ImageId: TypeAlias = Annotated[str, BeforeValidator(_uuid), Field(json_schema_extra={"format": "uuid"})]
# Must follow the limits of a field; otherwise the JSON Schema lacks them.
WHOLE = BeforeValidator(_whole)
# Little-endian float32 in base64, as in OpenAI's embeddings API.
Base64: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=8 * MAX_DIMENSIONS, json_schema_extra={"format": "byte"})
]
_Numbers: TypeAlias = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1, max_length=MAX_DIMENSIONS)
]
Vector: TypeAlias = _Numbers | Base64


@dataclass(frozen=True, config=REQUEST)
class Request:
    """Base class of requests; `HINTS` (by field) and `EXAMPLE` are the hints of errors."""

    HINTS: ClassVar[Mapping[str, str]] = {}
    EXAMPLE: ClassVar[str] = ""

    @model_validator(mode="wrap")
    @classmethod
    def _translate_errors(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Raise `InvalidRequest` if the request is constructed in Python; for JSON, `read_json` does."""
        try:
            return handler(value)
        except ValidationError as error:
            if isinstance(value, ArgsKwargs):
                raise refusal(error, cls) from None
            raise


@dataclass(frozen=True, config=REQUEST)
class Term(Request):
    """A text, an image, an uploaded picture or a vector to search by, with a weight.

    Attributes:
        text: description of a scene.
        image: id of an indexed image, which is left out of the results.
        file: number of an uploaded picture, from 0.
        vector: in the joint space, see `Query`.
        weight: relative to the other terms, -1 to 1 but not 0; a negative weight lowers the rank of similar images.

    Raises:
        InvalidRequest: not exactly one of the four is given, or the weight is 0.
    """

    HINTS: ClassVar[Mapping[str, str]] = {
        "text": "describe a scene in a few words, such as: a dog jumping over a log",
        "image": "give the id of a result",
        "file": "pictures of the form are numbered from 0",
        "vector": "send the numbers of an embedding returned by this service, or their bytes in base64",
        "weight": "weights are from -1 to 1, but not 0",
    }
    EXAMPLE: ClassVar[str] = (
        'a term is an object such as {"text": "sunset", "weight": 0.5}, or short: sunset:0.5, -people'
    )

    text: Text | None = None
    image: ImageId | None = None
    file: Annotated[
        int | None, Field(ge=0, lt=MAX_TERMS, description="Number of a picture in the form, from 0."), WHOLE
    ] = None
    vector: Vector | None = None
    weight: Annotated[
        float, Field(ge=-1, le=1, allow_inf_nan=False, description="Negative: similar images rank lower. Not 0.")
    ] = 1.0

    def __post_init__(self) -> None:
        checked(_check_term)(self)

    def in_words(self) -> str:
        """The short form of a text term, for display; `term_from_words` parses most back to the same term."""
        share = f"{abs(self.weight):.4f}".rstrip("0")
        return f"{'-' if self.weight < 0 else ''}{self.text}{'' if share == '1.' else f':{share}'}"


def _check_term(term: Term) -> None:
    fields = [each for each in (term.text, term.image, term.file, term.vector) if each is not None]
    if len(fields) != 1:
        raise InvalidRequest(
            f"a term needs exactly one of text, image, file and vector, but has {len(fields) or 'none'}", Term.EXAMPLE
        )
    if not term.weight:
        raise InvalidRequest("the weight of a term is 0", Term.HINTS["weight"])


_SHARE = r":(0?\.[0-9]+|1(?:\.0+)?)"
_WEIGHT = re.compile(rf"{_SHARE}$", re.ASCII)
_FILE = re.compile(rf"file:([0-7])(?:{_SHARE})?", re.ASCII)


def split_weight(words: str) -> tuple[str, float]:
    """Split an optional ``:WEIGHT`` suffix, a number up to 1, from words; the weight defaults to 1."""
    words = words.strip()
    suffix = _WEIGHT.search(words)
    return (words[: suffix.start()], float(suffix[1])) if suffix else (words, 1.0)


def term_from_words(words: str, sign: Literal[-1, 1] = 1) -> Term:
    """Parse a term in short form: a text, an image id or ``file:NUMBER``, optionally with ``:WEIGHT``.

    Args:
        words: such as ``sunset`` or ``sunset:0.5``.
        sign: of the weight.

    Raises:
        InvalidRequest: there are no words, the weight is 0, or the text is not a valid query.
    """
    if file := _FILE.fullmatch(words.strip()):
        return Term(file=int(file[1]), weight=sign * float(file[2] or 1))
    what, weight = split_weight(words)
    return _term_of(what, sign * weight)


def terms_of(plus: Iterable[Wanted], minus: Iterable[Wanted], pictures: list[Picture]) -> list[Term]:
    """Terms with positive and negative weights.

    Args:
        plus: texts, ids of indexed images, and pictures, each alone or with a weight up to 1.
        minus: likewise; their weights are negated.
        pictures: list to which pictures are appended; terms refer to them by index.

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
    """An image term if `what` is a UUID, otherwise a text term."""
    try:
        return Term(image=str(UUID(what)), weight=weight)
    except ValueError:
        return Term(text=what, weight=weight)


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest("a term that starts with { is not valid JSON", Term.EXAMPLE) from None


def _term(value: Any) -> Any:
    """Parse a term that is a string: in short form, or JSON in a query string; leave others unchanged."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return checked(_object)(value)
    words = value.lstrip()
    return checked(term_from_words)(*((words[1:], -1) if words.startswith("-") else (words,)))


Terms: TypeAlias = Annotated[
    list[
        Annotated[
            Term,
            BeforeValidator(_term),
            WithJsonSchema({"anyOf": [{"$ref": "#/components/schemas/Term"}, {"type": "string", "minLength": 1}]}),
        ]
    ],
    Field(min_length=1, max_length=MAX_TERMS),
]


TermsInWords: TypeAlias = Annotated[
    list[Annotated[Term, BeforeValidator(_term), WithJsonSchema({"type": "string", "minLength": 1})]],
    Field(min_length=1, max_length=MAX_TERMS),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A weighted text, image or vector to search by; exactly one of the three is set.

    Attributes:
        weight: 0 only if there are other parts.
        text: a valid query.
        image: id of an indexed image, or number of a picture sent with the query.
        vector: numbers, or float32 in base64.
    """

    weight: float
    text: str | None = None
    image: str | int | None = None
    vector: str | Sequence[float] | None = None
