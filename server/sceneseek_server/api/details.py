"""`/v1/images/{id}/details`: what the index knows of one image."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, Response

from sceneseek.errors import NotFound
from sceneseek.search import Image, Search, describe
from sceneseek_server.answer import json_answer
from sceneseek_server.api.deadline import deadline
from sceneseek_server.api.documents import ImageDocument, image_document
from sceneseek_server.api.operation import operation


def details_blueprint(search: Search) -> Blueprint:
    """The view over one pipeline."""
    blueprint = Blueprint("details", __name__, url_prefix="/v1/images")

    @blueprint.get("/<uuid:image_id>/details")
    @operation(
        summary="What is known of an image",
        tag="images",
        answer=ImageDocument,
        problems={404: "No image has this id."},
    )
    def details(image_id: UUID) -> Response:
        """Its size, format and metadata, and how many near-duplicates it has."""
        with search.follower.borrow() as snapshot:
            records = snapshot.collection.retrieve([str(image_id)], deadline())
        if not records:
            raise NotFound(f"no image has the id {image_id}", "search again: it may have left the index")
        return json_answer(image_document(Image(**describe(records[0]))))

    return blueprint
