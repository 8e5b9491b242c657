"""`/v1/collections`: the generations of the index, and which of them answers."""

from __future__ import annotations

from flask import Blueprint, Response

from sceneseek.errors import IndexUnavailable
from sceneseek.search import Search
from sceneseek.store import CollectionInfo
from sceneseek_server.answer import json_answer
from sceneseek_server.api.deadline import deadline
from sceneseek_server.api.documents import CollectionDocument, CollectionsDocument
from sceneseek_server.api.operation import operation


def collections_blueprint(search: Search) -> Blueprint:
    """The view over one store."""
    blueprint = Blueprint("collections", __name__, url_prefix="/v1/collections")

    @blueprint.get("")
    @operation(summary="The generations of the index", tag="index", answer=CollectionsDocument)
    def collections() -> Response:
        """Which generations there are, which one answers now, from which bundle, and whether another is being made."""
        with search.follower.borrow() as snapshot:
            live, images = snapshot.collection.info, snapshot.collection.count(deadline())
            manifest = snapshot.models.bundle.manifest
        others = [info for info in search.store.generations() if info.name != live.name]
        counted = [(info, size) for info in others if (size := _size(search, info.name)) is not None]
        every = sorted([*counted, (live, images)], key=lambda each: (each[0].created, each[0].name))
        document: CollectionsDocument = {
            "live": live.name,
            "bundle": manifest.fingerprints.bundle,
            "pack": manifest.pack,
            "building": search.store.building(),
            "collections": [_document(info, size, live.name) for info, size in every],
        }
        return json_answer(document)

    return blueprint


def _size(search: Search, name: str) -> int | None:
    """None where it has gone since it was listed."""
    try:
        return search.store.size(name)
    except IndexUnavailable:
        return None


def _document(info: CollectionInfo, images: int, live: str) -> CollectionDocument:
    return {
        "name": info.name,
        "live": info.name == live,
        "images": images,
        "image_fingerprint": info.image_fingerprint,
        "dimensions": info.joint,
        "created": info.created,
        "fields": dict(info.indexed),
    }
