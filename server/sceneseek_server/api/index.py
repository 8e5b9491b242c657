"""`/v1/collections` and `/v1/fields`: the generations of the index, and the filterable fields of the live one."""

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
from sceneseek_server.responses import deadline, json_response

# Records per page: few, since the embedded engine blocks searches while it reads a page.
_BATCH = 256


def index_blueprint(search: Search, uploads: bool) -> Blueprint:
    """The views of one pipeline; `uploads` tells whether uploads are enabled."""
    blueprint = Blueprint("index", __name__, url_prefix="/v1")
    lock = threading.Lock()
    cached: dict[str, FieldsDocument] = {}

    @blueprint.get("/collections")
    @operation(summary="The generations of the index", tag="index", answer=Collections)
    def collections() -> Response:
        """All generations, the live one and its bundle, and whether another one is being built."""
        with search.follower.borrow() as snapshot:
            live, images = snapshot.collection.info, snapshot.collection.count(deadline())
            manifest = snapshot.models.bundle.manifest
        others = [info for info in search.store.generations() if info.name != live.name]
        counted = [(info, size) for info in others if (size := _size(search, info.name)) is not None]
        every = sorted([*counted, (live, images)], key=lambda each: (each[0].created, each[0].name))
        return json_response(
            Collections(
                live=live.name,
                bundle=manifest.fingerprints.bundle,
                pack=manifest.pack,
                building=search.store.building(),
                may_write=uploads and may_write(),
                collections=tuple(_collection(info, size, live.name) for info, size in every),
            )
        )

    @blueprint.get("/fields")
    @operation(summary="The fields to filter by", tag="index", answer=FieldsDocument)
    def fields() -> Response:
        """The fields of the user's metadata: types, most frequent values, and the bounds of numbers and dates.

        Counted once per generation, for at most a second; of a large generation only a part is counted.
        """
        # One request counts; concurrent ones wait for its result.
        with lock, search.follower.borrow() as snapshot:
            info = snapshot.collection.info
            if info.name not in cached:
                document = count_facets(info.name, info.indexed, snapshot.collection.scroll(_BATCH, deadline()))
                cached.clear()
                cached[info.name] = document
            return json_response(cached[info.name])

    return blueprint


def _size(search: Search, name: str) -> int | None:
    """The number of images; None if the generation has been removed since it was listed."""
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
