"""The OpenAPI 3.1 document of the service, generated from its views, their declarations and their models."""

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
from sceneseek_server.responses import PROBLEM_MEDIA_TYPE, json_response

View = TypeVar("View", bound=Callable[..., Any])

_SCHEMAS = "#/components/schemas/{model}"
CONDITION, TERM = "Condition", "Term"
PICTURES = "image/jpeg, image/png, image/webp, image/gif"
PICTURE_TYPES = ("image/*", "application/octet-stream")
_TAGS = {
    "search": "Find images by texts and images, and score a text for images.",
    "images": "Original images and thumbnails.",
    "feedback": "Ratings of results.",
    "index": "The searched collection.",
    "service": "The service itself.",
}
# Problems of any operation, besides its own.
_PROBLEMS = {
    400: "The request is not valid; `detail` says why, `hint` what to do.",
    401: "A key is required, and the request has no valid key.",
    403: "A page of another web site sent the request, or its key may not do this.",
    404: "The address does not exist.",
    405: "The method is not allowed.",
    408: "The request was sent too slowly.",
    413: "The body is too large.",
    414: "The address is too long; send a long query as JSON.",
    415: "The media type of the body is not supported.",
    421: "The host name is not allowed.",
    429: "Too many requests; Retry-After says when to retry.",
    431: "The headers are too large.",
    500: "An internal error; see the log of the service.",
    503: "The service cannot answer now: the index or a model is unavailable, or the deadline passed.",
}
_WITHOUT_BODY = frozenset({413, 415})
_HEADERS: dict[str, dict[str, Any]] = {
    "Allow": {"description": "The allowed methods.", "required": True, "schema": {"type": "string"}},
    "Cache-Control": {
        "description": "How long the response may be cached; `no-store` if it may not.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Content-Range": {"description": "The range of the bytes.", "required": True, "schema": {"type": "string"}},
    "ETag": {"description": "Changes with the content.", "required": True, "schema": {"type": "string"}},
    "Location": {"description": "The address of its status.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}},
}
_HEADERS_OF = {401: ("WWW-Authenticate",), 405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",)}
_INTRODUCTION = (
    "Text-to-image search with a score learned from human ratings. Errors are `application/problem+json` "
    "(RFC 9457). If the service requires a key, send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
)


@dataclass(frozen=True)
class Operation:
    """One operation: a method at an address.

    Attributes:
        summary: a few words.
        tag: its group.
        answer: the type of its JSON response; or the media types of a response that is not JSON.
        status: the status of a successful response.
        arguments: the model of its query string.
        body: the models of a JSON body, which matches one of them.
        upload: the model of the fields of a `multipart/form-data` body with pictures.
        problems: statuses of its own errors, with descriptions.
        repeatable: whether it answers a repeated request with 200.
        conditional: whether it supports conditional requests (304).
        ranges: whether it supports range requests (206 and 416).
        path: the schema of its path parameter; defaults to that of an id.
        picture: whether its body is a picture.
        request_headers: its request headers, with descriptions.
        response_headers: names of additional response headers, among `_HEADERS`.
        links: ids of operations that use its response, with their parameters as runtime expressions.
        id: its operation id; defaults to the name of the view.
    """

    summary: str
    tag: str
    answer: Any
    status: int = 200
    arguments: type[Any] | None = None
    body: tuple[type[Any], ...] = ()
    upload: type[Any] | None = None
    problems: Mapping[int, str] = field(default_factory=dict)
    repeatable: bool = False
    conditional: bool = False
    ranges: bool = False
    path: Mapping[str, Any] = field(default_factory=lambda: {"type": "string", "format": "uuid"})
    picture: bool = False
    request_headers: Mapping[str, str] = field(default_factory=dict)
    response_headers: tuple[str, ...] = ()
    links: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    id: str = ""


def operation(**fields: Any) -> Callable[[View], View]:
    """Declare a view as an operation, described by its docstring."""

    def declare(view: View) -> View:
        view.operation = Operation(**fields)  # type: ignore[attr-defined]  # read by `openapi_document`
        return view

    return declare


def openapi_blueprint() -> Blueprint:
    """The view `/openapi.json`."""
    blueprint = Blueprint("openapi", __name__)
    document: dict[str, Any] = {}

    @blueprint.get("/openapi.json")
    @operation(summary="This document", tag="service", answer=dict[str, Any])
    def openapi() -> Response:
        """The description of the HTTP API, in OpenAPI 3.1."""
        if not document:
            document.update(openapi_document(current_app))
        return json_response(document)

    return blueprint


def openapi_document(app: Flask) -> dict[str, Any]:
    """Describe all views of an application that are declared as operations."""
    views: list[tuple[Rule, str, Operation]] = [
        (rule, method, declared)
        for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
        if (declared := getattr(app.view_functions[rule.endpoint], "operation", None))
        for method in sorted((rule.methods or set()) & {"GET", "POST", "DELETE", "PUT"})
    ]
    schemas = _Schemas(declared for _, _, declared in views)
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, declared in views:
        address = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        paths.setdefault(address, {})[method.lower()] = _operation(app, rule, declared, schemas)
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
        # Either of the two, or none if the service requires no key.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _term_schema() -> dict[str, Any]:
    """The schema of a term, which has exactly one of four kinds of content."""
    schema = adapter(Term).json_schema()
    fields = {name: _without_null(field) for name, field in schema["properties"].items()}
    fields["weight"] = {**fields["weight"], "not": {"const": 0}}
    return {
        "type": "object",
        "description": "One of several texts, images or vectors to search by, and its weight.",
        "properties": fields,
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in fields if name != "weight"],
    }


class _Schemas:
    """The JSON Schemas of all responses and request bodies."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        listed = list(operations)
        answers = [each.answer for each in listed if not isinstance(each.answer, tuple)]
        bodies: list[Any] = [Union[each.body] for each in listed if each.body]  # noqa: UP007 - built from a tuple
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
        """The schema of a response."""
        return self._by_key[repr(answer), "serialization"]

    def body(self, body: tuple[Any, ...]) -> dict[str, Any]:
        """The schema of a request body that matches one of these models."""
        return self._by_key[repr(Union[body]), "validation"]  # noqa: UP007


def _operation(app: Flask, rule: Rule, declared: Operation, schemas: _Schemas) -> dict[str, Any]:
    view = app.view_functions[rule.endpoint]
    document: dict[str, Any] = {
        "operationId": declared.id or view.__name__,
        "summary": declared.summary,
        "description": inspect.getdoc(view) or "",
        "tags": [declared.tag],
        "parameters": _parameters(rule, declared),
        "responses": _responses(declared, schemas),
    }
    if content := _body(declared, schemas):
        document["requestBody"] = {"required": True, "content": content}
    return document


def _parameters(rule: Rule, declared: Operation) -> list[dict[str, Any]]:
    """The parameters in the path, the query string and the headers."""
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": dict(declared.path)} for name in sorted(rule.arguments)
    ]
    schema = adapter(declared.arguments).json_schema() if declared.arguments is not None else {}
    for name, property_schema in schema.get("properties", {}).items():
        about, required = _without_null(property_schema), name in schema.get("required", ())
        text = about.pop("description", "")
        parameters.append({"name": name, "in": "query", "required": required, "description": text, "schema": about})
    for name, text in declared.request_headers.items():
        about = {"type": "string"}
        parameters.append({"name": name, "in": "header", "required": False, "description": text, "schema": about})
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an optional field in a query string or a form, where null does not exist."""
    about = {name: value for name, value in schema.items() if name not in ("title", "anyOf")}
    kinds = [kind for kind in schema.get("anyOf", ()) if kind.get("type") != "null"]
    if about.get("default", ...) is None:
        del about["default"]
    return {**kinds[0], **about} if len(kinds) == 1 else {**about, **({"anyOf": kinds} if kinds else {})}


def _body(declared: Operation, schemas: _Schemas) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if declared.body:
        content["application/json"] = {"schema": schemas.body(declared.body)}
    if declared.picture:
        content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES}
    if declared.upload is not None:
        schema = adapter(declared.upload).json_schema()
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


def _responses(declared: Operation, schemas: _Schemas) -> dict[str, Any]:
    if isinstance(declared.answer, tuple):
        content: dict[str, Any] = {media_type: {"schema": {"type": "string"}} for media_type in declared.answer}
    else:
        content = {"application/json": {"schema": schemas.answer(declared.answer)}}
    about = _headers("Cache-Control", *declared.response_headers, *(("ETag",) if declared.conditional else ()))
    answer: dict[str, Any] = {"description": "Success.", "headers": about, "content": content}
    if declared.links:
        answer["links"] = {
            name: {"operationId": name, "parameters": dict(parameters)} for name, parameters in declared.links.items()
        }
    responses: dict[str, Any] = {str(declared.status): answer}
    if declared.repeatable:
        responses["200"] = {**answer, "description": "The request was repeated; nothing has changed."}
    if declared.conditional:
        responses["304"] = {"description": "The client's copy is up to date.", "headers": about}
    if declared.ranges:
        part = {**about, **_headers("Content-Range")}
        responses["206"] = {"description": "The requested range.", "headers": part, "content": content}
        responses["416"] = {
            **_problem(416, "The range is not valid.", schemas),
            "headers": _headers("Content-Range"),
        }
    has_body = declared.body or declared.upload or declared.picture
    for status in _PROBLEMS:
        if status not in declared.problems and (has_body or status not in _WITHOUT_BODY) and status != 404:
            responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    for status, text in declared.problems.items():
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
