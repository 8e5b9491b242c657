"""What a search is by: texts, indexed images, pictures that come along and vectors, each with a weight.

A `Term` is one of them as a request has it, in JSON or in words (``sunset:0.5``, ``-people``); a `Part` is one of them
as the pipeline takes it. The module also has what all requests of `sceneseek.queries` have in common.
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
"""A file, or what it holds."""
Wanted: TypeAlias = str | UUID | Picture | tuple[str | UUID | Picture, float]
"""What a search is by, alone or with a weight; see `terms_of`."""

MAX_TERMS = 8
MAX_DIMENSIONS = 4_096

REQUEST = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True)


def checked(check: Callable[..., Value]) -> Callable[..., Value]:
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
    AfterValidator(checked(checked_query)),
    Field(
        description="A scene in words.",
        examples=["a dog jumping over a log"],
        # Stated here, and checked by `checked_query`, which says by how much.
        json_schema_extra={"minLength": 1, "maxLength": MAX_QUERY_CHARACTERS, "pattern": TEXT_PATTERN},
    ),
]
ImageId: TypeAlias = Annotated[str, BeforeValidator(_uuid), Field(json_schema_extra={"format": "uuid"})]
# Beside a field's limits, after them: where it comes first, they are no part of the JSON Schema.
WHOLE = BeforeValidator(_whole)
# Little-endian float32 in base64, as the embeddings of OpenAI's API, or numbers.
Base64: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=8 * MAX_DIMENSIONS, json_schema_extra={"format": "byte"})
]
_Numbers: TypeAlias = Annotated[
    list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1, max_length=MAX_DIMENSIONS)
]
Vector: TypeAlias = _Numbers | Base64


@dataclass(frozen=True, config=REQUEST)
class Request:
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


@dataclass(frozen=True, config=REQUEST)
class Term(Request):
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
        int | None, Field(ge=0, lt=MAX_TERMS, description="Of a form, the picture of this number."), WHOLE
    ] = None
    vector: Vector | None = None
    weight: Annotated[
        float, Field(ge=-1, le=1, allow_inf_nan=False, description="Negative: like this comes later. Not 0.")
    ] = 1.0

    def __post_init__(self) -> None:
        checked(_check_term)(self)

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
