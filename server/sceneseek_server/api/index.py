"""`/v1/collections` and `/v1/fields`: the generations of the index, and what the live one can be filtered by."""

from __future__ import annotations

import threading

from flask import Blueprint, Response

from sceneseek.api import Collection, Collections
from sceneseek.errors import IndexUnavailable
from sceneseek.search import Search
from sceneseek.store import CollectionInfo
from sceneseek_server.access.control import may_write
from sceneseek_server.api.openapi import operation
from sceneseek_server.facets import FieldsDocument, count_facets
from sceneseek_server.responses import deadline, json_answer

# Records at a time: few, since the embedded engine lets nobody search while it reads them.
_BATCH = 256


def index_blueprint(search: Search, takes_pictures: bool) -> Blueprint:
    """The views over one pipeline, of a service that takes pictures or does not."""
    blueprint = Blueprint("index", __name__, url_prefix="/v1")
    lock = threading.Lock()
    cached: dict[str, FieldsDocument] = {}

    @blueprint.get("/collections")
    @operation(summary="The generations of the index", tag="index", answer=Collections)
    def collections() -> Response:
        """Which generations there are, which one answers now, from which bundle, and whether another is being made."""
        with search.follower.borrow() as snapshot:
            live, images = snapshot.collection.info, snapshot.collection.count(deadline())
            manifest = snapshot.models.bundle.manifest
        others = [info for info in search.store.generations() if info.name != live.name]
        counted = [(info, size) for info in others if (size := _size(search, info.name)) is not None]
        every = sorted([*counted, (live, images)], key=lambda each: (each[0].created, each[0].name))
        return json_answer(
            Collections(
                live=live.name,
                bundle=manifest.fingerprints.bundle,
                pack=manifest.pack,
                building=search.store.building(),
                may_write=takes_pictures and may_write(),
                collections=tuple(_collection(info, size, live.name) for info, size in every),
            )
        )

    @blueprint.get("/fields")
    @operation(summary="What images can be filtered by", tag="index", answer=FieldsDocument)
    def fields() -> Response:
        """The user's metadata: fields, their types, their most frequent values, and the bounds of numbers and dates.

        Looked through once for each generation, for a second at most, so that of a large one only a part is counted.
        """
        # One request counts while the others wait for its result.
        with lock, search.follower.borrow() as snapshot:
            info = snapshot.collection.info
            if info.name not in cached:
                found = count_facets(info.name, info.indexed, snapshot.collection.scroll(_BATCH, deadline()))
                cached.clear()
                cached[info.name] = found
            return json_answer(cached[info.name])

    return blueprint


def _size(search: Search, name: str) -> int | None:
    """None where it has been removed since it was listed."""
    try:
        return search.store.size(name)
    except IndexUnavailable:
        return None


def _collection(info: CollectionInfo, images: int, live: str) -> Collection:
    return Collection(
        name=info.name,
        live=info.name == live,
        images=images,
        image_fingerprint=info.image_fingerprint,
        dimensions=info.joint,
        created=info.created,
        fields=dict(info.indexed),
    )
