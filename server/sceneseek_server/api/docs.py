"""`/docs`: the OpenAPI document as a page for people, drawn here: no script, nothing from another host."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, current_app, render_template
from markupsafe import Markup

from sceneseek_server.api.openapi import openapi_document

_EXAMPLES = {
    "search_by_arguments": "curl 'http://localhost:8080/v1/search?q=a+dog+jumping+over+a+log&k=5'",
    "search_by_body": (
        "curl http://localhost:8080/v1/search -H 'Content-Type: application/json' \\\n"
        '    -d \'{"q": "a lighthouse", "filter": {"field": "year", "gte": 1990}, "explain": true}\'\n'
        "curl http://localhost:8080/v1/search -F file=@photo.jpg -F 'q=at night'"
    ),
    "score": "curl http://localhost:8080/v1/score -F q='a red bicycle' -F file=@photo.jpg",
    "rate": (
        "curl http://localhost:8080/v1/feedback -H 'Content-Type: application/json' \\\n"
        '    -d \'{"query": "a lighthouse", "image": "ID", "rating": 4}\''
    ),
}


def docs_blueprint() -> Blueprint:
    """The page about the application that it is registered with."""
    blueprint = Blueprint("docs", __name__)
    made: list[str] = []

    @blueprint.get("/docs")
    def docs() -> str:
        if not made:
            document = openapi_document(current_app)
            made.append(
                render_template(
                    "docs.html",
                    document=document,
                    groups=_by_tag(document),
                    schemas=document["components"]["schemas"],
                    examples=_EXAMPLES,
                    kind=_kind,
                    prose=_prose,
                    shown=lambda value: json.dumps(value, ensure_ascii=False),
                )
            )
        return made[0]

    return blueprint


def _by_tag(document: dict[str, Any]) -> list[tuple[dict[str, Any], list[tuple[str, str, dict[str, Any]]]]]:
    """The operations of each tag: method, address, description."""
    operations = [
        (method.upper(), address, found)
        for address, methods in document["paths"].items()
        for method, found in methods.items()
    ]
    return [(tag, [each for each in operations if tag["name"] in each[2]["tags"]]) for tag in document["tags"]]


def _prose(text: str) -> Markup:
    """A description as HTML, what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _kind(schema: dict[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if kinds := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_kind(kind) for kind in kinds))
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    ends = [schema.get("minimum", schema.get("minLength")), schema.get("maximum", schema.get("maxLength"))]
    span = " to ".join(f"{end:g}" for end in ends if end is not None)
    form = schema.get("format", kind)
    return f"{form}, {'at least ' if ends[1] is None else ''}{span}" if span else str(form)
