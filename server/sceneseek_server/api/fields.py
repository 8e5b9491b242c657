"""`/v1/fields`: what a generation's images can be filtered by."""

from __future__ import annotations

import threading
from typing import Annotated

from flask import Blueprint, Response
from pydantic import Field
from typing_extensions import TypedDict

from sceneseek.search import Search
from sceneseek.store.base import FieldType
from sceneseek_server.answer import json_answer
from sceneseek_server.api.deadline import deadline
from sceneseek_server.api.operation import operation
from sceneseek_server.facets import Facet, Facets, count_facets

# Records at a time: few, since the embedded engine lets nobody search while it reads them.
_BATCH = 256


class ValueDocument(TypedDict):
    """A value, and how many of the images looked at have it."""

    value: str | bool
    images: Annotated[int, Field(ge=1)]


class FieldDocument(TypedDict):
    """One field of the metadata; `values` for words and truth values, `min` and `max` for numbers and dates."""

    name: Annotated[str, Field(description="As a filter names it.")]
    type: FieldType
    images: Annotated[int, Field(ge=1, description="How many of the images looked at have it.")]
    values: Annotated[list[ValueDocument], Field(description="The most frequent, most frequent first.")]
    distinct: Annotated[int, Field(ge=0, description="How many values were counted; there may be more.")]
    min: float | str | None
    max: float | str | None


class FieldsDocument(TypedDict):
    """The fields of the live generation's metadata."""

    generation: str
    images: Annotated[int, Field(ge=0, description="How many images were looked at.")]
    complete: Annotated[bool, Field(description="Whether those are all of them.")]
    fields: list[FieldDocument]


def fields_blueprint(search: Search) -> Blueprint:
    """The view over one pipeline."""
    blueprint = Blueprint("fields", __name__, url_prefix="/v1/fields")
    lock = threading.Lock()
    cached: dict[str, Facets] = {}

    @blueprint.get("")
    @operation(summary="What images can be filtered by", tag="index", answer=FieldsDocument)
    def fields() -> Response:
        """The user's metadata: fields, their types, their most frequent values, and the bounds of numbers and dates.

        Looked through once for each generation, for a second at most, so that of a large one only a part is counted.
        """
        # One request counts while the others wait for its result.
        with lock, search.follower.borrow() as snapshot:
            info = snapshot.collection.info
            if info.name not in cached:
                found = count_facets(info.indexed, snapshot.collection.scroll(_BATCH, deadline()))
                cached.clear()
                cached[info.name] = found
            found = cached[info.name]
        document: FieldsDocument = {
            "generation": info.name,
            "images": found.images,
            "complete": found.complete,
            "fields": [_document(field) for field in found.fields],
        }
        return json_answer(document)

    return blueprint


def _document(field: Facet) -> FieldDocument:
    return {
        "name": field.name,
        "type": field.type,
        "images": field.images,
        "values": [{"value": value, "images": images} for value, images in field.values],
        "distinct": field.distinct,
        "min": field.least,
        "max": field.greatest,
    }
