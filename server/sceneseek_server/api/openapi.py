"""The OpenAPI 3.1 document of the service, made from its views, what they declare of themselves, and their models."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, Union

from flask import Blueprint, Flask, Response, current_app
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from werkzeug.routing import Rule

from sceneseek import __version__
from sceneseek.api import Problem, adapter
from sceneseek.filters.document import condition_schema
from sceneseek.terms import Term
from sceneseek_server.api.uploads import MAX_PICTURES, PICTURE
from sceneseek_server.responses import PROBLEM_MEDIA_TYPE, json_answer

View = TypeVar("View", bound=Callable[..., Any])

_SCHEMAS = "#/components/schemas/{model}"
CONDITION, TERM = "Condition", "Term"
PICTURES = "image/jpeg, image/png, image/webp, image/gif"
PICTURE_TYPES = ("image/*", "application/octet-stream")
_TAGS = {
    "search": "Find images by texts and images, and score a text for images.",
    "images": "The images themselves, and small ones for a page.",
    "feedback": "What people say of results.",
    "index": "What is searched.",
    "service": "The service itself.",
}
# What any operation may answer, beside its own problems.
_PROBLEMS = {
    400: "The request cannot be answered as it stands; `detail` says why, `hint` what to do.",
    401: "A key is needed, and none that is known came with the request.",
    403: "Another web site's page sent it, or its key may not do this.",
    404: "Nothing is at this address.",
    405: "Another method is meant.",
    408: "The request came too slowly.",
    413: "The body is too large.",
    414: "The address is too long; a long query is sent as JSON.",
    415: "The body is of another media type than those that are read here.",
    421: "The service is not known by the name that it was asked by.",
    429: "Too much at a time; Retry-After says when to come again.",
    431: "The headers are too large.",
    500: "A fault of the service's own; its log says more.",
    503: "The service cannot answer now: the index, a model or time is missing.",
}
_WITHOUT_BODY = frozenset({413, 415})
_HEADERS: dict[str, dict[str, Any]] = {
    "Allow": {"description": "The methods that are possible.", "required": True, "schema": {"type": "string"}},
    "Cache-Control": {
        "description": "How long it is fresh; `no-store` of what is of this moment.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Content-Range": {"description": "Which bytes they are.", "required": True, "schema": {"type": "string"}},
    "ETag": {"description": "Changes with the content.", "required": True, "schema": {"type": "string"}},
    "Location": {"description": "Where to ask what became of it.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}},
}
_HEADERS_OF = {401: ("WWW-Authenticate",), 405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",)}
_INTRODUCTION = (
    "Text-to-image search with a score that was learned from human ratings. Errors are `application/problem+json` "
    "(RFC 9457). Where the service has keys, send one as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
)


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
        upload: the model of a body of `multipart/form-data`, beside its pictures.
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
        view.operation = Operation(**fields)  # type: ignore[attr-defined]  # where `openapi_document` finds it
        return view

    return declare


def openapi_blueprint() -> Blueprint:
    """`/openapi.json` of the application that it is registered with."""
    blueprint = Blueprint("openapi", __name__)
    made: dict[str, Any] = {}

    @blueprint.get("/openapi.json")
    @operation(summary="This document", tag="service", answer=dict[str, Any])
    def openapi() -> Response:
        """The description of the whole interface, in OpenAPI 3.1."""
        if not made:
            made.update(openapi_document(current_app))
        return json_answer(made)

    return blueprint


def openapi_document(app: Flask) -> dict[str, Any]:
    """The description of every view of an application that declared itself an operation."""
    views: list[tuple[Rule, str, Operation]] = [
        (rule, method, found)
        for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
        if (found := getattr(app.view_functions[rule.endpoint], "operation", None))
        for method in sorted((rule.methods or set()) & {"GET", "POST", "DELETE", "PUT"})
    ]
    schemas = _Schemas(found for _, _, found in views)
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, found in views:
        address = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        paths.setdefault(address, {})[method.lower()] = _operation(app, rule, found, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sceneseek",
            "version": __version__,
            "summary": "Text-to-image search with a score you can trust",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "."}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {
                **schemas.components,
                CONDITION: condition_schema(_SCHEMAS.format(model=CONDITION)),
                TERM: _term_schema(),
            },
            "responses": {str(status): _problem(status, text, schemas) for status, text in _PROBLEMS.items()},
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        # Any of the two, or none where the service has no keys.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _term_schema() -> dict[str, Any]:
    """One of several things to search by, which is one of four."""
    schema = adapter(Term).json_schema()
    fields = {name: _without_null(field) for name, field in schema["properties"].items()}
    fields["weight"] = {**fields["weight"], "not": {"const": 0}}
    return {
        "type": "object",
        "description": "One of several things to search by, and its weight.",
        "properties": fields,
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in fields if name != "weight"],
    }


class _Schemas:
    """The JSON Schemas of all documents and bodies, each named once."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        found = list(operations)
        answers = [each.answer for each in found if not isinstance(each.answer, tuple)]
        bodies: list[Any] = [Union[each.body] for each in found if each.body]  # noqa: UP007 - made of a tuple
        keyed: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
            *((repr(answer), "serialization", TypeAdapter(answer)) for answer in [*answers, Problem]),
            *((repr(body), "validation", TypeAdapter[Any](body)) for body in bodies),
        ]
        unique = {(key, mode): adapter for key, mode, adapter in keyed}
        self._by_key, definitions = TypeAdapter.json_schemas(
            [(key, mode, adapter) for (key, mode), adapter in unique.items()], ref_template=_SCHEMAS
        )
        self.components: dict[str, Any] = {
            name: {**schema, "description": schema.get("description", "").partition("\n\n")[0]}
            for name, schema in definitions.get("$defs", {}).items()
        }

    def answer(self, answer: Any) -> dict[str, Any]:
        """Of a document."""
        return self._by_key[repr(answer), "serialization"]

    def body(self, body: tuple[Any, ...]) -> dict[str, Any]:
        """Of a body that may have any of these forms."""
        return self._by_key[repr(Union[body]), "validation"]  # noqa: UP007


def _operation(app: Flask, rule: Rule, found: Operation, schemas: _Schemas) -> dict[str, Any]:
    view = app.view_functions[rule.endpoint]
    document: dict[str, Any] = {
        "operationId": found.id or view.__name__,
        "summary": found.summary,
        "description": inspect.getdoc(view) or "",
        "tags": [found.tag],
        "parameters": _parameters(rule, found),
        "responses": _responses(found, schemas),
    }
    if content := _body(found, schemas):
        document["requestBody"] = {"required": True, "content": content}
    return document


def _parameters(rule: Rule, found: Operation) -> list[dict[str, Any]]:
    """Those in the path, in the query string and in the headers."""
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": dict(found.path)} for name in sorted(rule.arguments)
    ]
    schema = adapter(found.arguments).json_schema() if found.arguments is not None else {}
    for name, property_schema in schema.get("properties", {}).items():
        about, required = _without_null(property_schema), name in schema.get("required", ())
        text = about.pop("description", "")
        parameters.append({"name": name, "in": "query", "required": required, "description": text, "schema": about})
    for name, text in found.headers.items():
        about = {"type": "string"}
        parameters.append({"name": name, "in": "header", "required": False, "description": text, "schema": about})
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field that may be left out, for where there is no null: a query string or a form."""
    about = {name: value for name, value in schema.items() if name not in ("title", "anyOf")}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"]
    if about.get("default", ...) is None:
        del about["default"]
    return {**kinds[0], **about} if len(kinds) == 1 else {**about, **({"anyOf": kinds} if kinds else {})}


def _body(found: Operation, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if found.body:
        content["application/json"] = {"schema": schemas.body(found.body)}
    if found.picture:
        content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES}
    if found.upload is not None:
        schema = adapter(found.upload).json_schema()
        part = {"type": "string", "format": "binary", "description": "A picture."}
        parts = {"type": "array", "items": part, "minItems": 1, "maxItems": MAX_PICTURES}
        fields = {name: _without_null(field) for name, field in schema["properties"].items()}
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {PICTURE: parts, **fields},
                "required": [PICTURE, *schema.get("required", ())],
                "additionalProperties": False,
            },
            "encoding": {PICTURE: {"contentType": PICTURES}},
        }
    return content


def _responses(found: Operation, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(found.answer, tuple):
        content: dict[str, Any] = {media_type: {"schema": {"type": "string"}} for media_type in found.answer}
    else:
        content = {"application/json": {"schema": schemas.answer(found.answer)}}
    about = _headers("Cache-Control", *found.answered, *(("ETag",) if found.unchanged else ()))
    answer: dict[str, Any] = {"description": "The answer.", "headers": about, "content": content}
    if found.links:
        answer["links"] = {
            name: {"operationId": name, "parameters": dict(parameters)} for name, parameters in found.links.items()
        }
    responses: dict[str, Any] = {str(found.status): answer}
    if found.again:
        responses["200"] = {**answer, "description": "The same had been asked before; nothing has changed."}
    if found.unchanged:
        responses["304"] = {"description": "What the client has is still right.", "headers": about}
    if found.parts:
        part = {**about, **_headers("Content-Range")}
        responses["206"] = {"description": "The part that was asked for.", "headers": part, "content": content}
        responses["416"] = {**_problem(416, "There is no such part.", schemas), "headers": _headers("Content-Range")}
    takes_a_body = found.body or found.upload or found.picture
    for status in _PROBLEMS:
        if status not in found.problems and (takes_a_body or status not in _WITHOUT_BODY) and status != 404:
            responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    for status, text in found.problems.items():
        responses[str(status)] = _problem(status, text, schemas)
    return dict(sorted(responses.items()))


def _problem(status: int, text: str, schemas: _Schemas) -> dict[str, Any]:
    headers = _headers("Cache-Control", *_HEADERS_OF.get(status, ()))
    return {
        "description": text,
        "headers": headers,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": schemas.answer(Problem)}},
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
