"""What a view tells of itself, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """One operation: a method at an address.

    Attributes:
        summary: a few words.
        tag: the group that it belongs to.
        answer: the document that it answers with, a type that pydantic knows; or media types of something else.
        status: that of the answer.
        arguments: the model of its query string.
        body: the models of a JSON body, any of which it takes.
        upload: the model of a body of `multipart/form-data`, beside its files.
        files: for such a body, the name of the part that holds a picture.
        most: how many times that part may come.
        problems: the statuses of errors that are its own, each with what it means.
        again: whether it answers 200 to a request that it has answered before.
        unchanged: whether it answers 304 to a client that has the content already.
        parts: whether a client may ask for a range of its bytes.
        path: the schema of its parameter in the address; by default that of an id.
        picture: whether its body is a picture.
        headers: of requests, each with what it means.
        answered: further headers of its answer, by name as in the document.
        links: what its answer leads to: by the id of another operation, that one's parameters as runtime expressions.
        id: its name for programs; by default that of the view.
    """

    summary: str
    tag: str
    answer: Any
    status: int = 200
    arguments: type[Any] | None = None
    body: tuple[type[Any], ...] = ()
    upload: type[Any] | None = None
    files: str = ""
    most: int = 1
    problems: Mapping[int, str] = field(default_factory=dict)
    again: bool = False
    unchanged: bool = False
    parts: bool = False
    path: Mapping[str, Any] = field(default_factory=lambda: {"type": "string", "format": "uuid"})
    picture: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    answered: tuple[str, ...] = ()
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    id: str = ""


def operation(**fields: Any) -> Callable[[View], View]:
    """Declare a view to be an operation; its docstring is the description."""

    def declare(view: View) -> View:
        view.operation = Operation(**fields)  # type: ignore[attr-defined]  # where `operation_of` finds it
        return view

    return declare


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """What a view declared; None if it is no operation of the API."""
    found: Operation | None = getattr(view, "operation", None)
    return found
