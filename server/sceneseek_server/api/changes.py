"""`PUT /v1/images/PATH`, `DELETE /v1/images/ID` and `GET /v1/images/ID/status`: adding and deleting images.

The service writes or deletes a picture in an indexed folder, and records the change (see `sceneseek.pending_changes`).
`sceneseek index watch` updates the index within seconds. A status is computed from the generation that this service
searches.
"""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from flask import Blueprint, Response, current_app, request
from werkzeug.datastructures import ETags
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.routing import PathConverter

from sceneseek.api import ImageStatus
from sceneseek.errors import Forbidden, NoSuchImage, NothingIndexed
from sceneseek.payload import label_of, point_id, relative_path
from sceneseek.pending_changes import PATH_PATTERN, Change, PendingChanges, checked_path
from sceneseek.search import Search
from sceneseek_server.access.control import check_may_write
from sceneseek_server.api.openapi import PICTURE_TYPES, operation
from sceneseek_server.api.uploads import Uploads
from sceneseek_server.image_files import find_record
from sceneseek_server.responses import deadline, json_response

_PATH = {
    "type": "string",
    "pattern": PATH_PATTERN,
    "description": "The path of the picture in its folder, with the extension of an image format.",
    "examples": ["2024/beach.jpg"],
}
_IF_MATCH = "The ETag of the image to {verb}, or `*` for any."
_PROBLEMS = {
    403: "Uploads are disabled, or the key may not write.",
    409: "A part of the path is not a folder, or the path is not a file.",
    412: "The image does not satisfy If-Match or If-None-Match.",
    507: "There is not enough space for more pictures.",
}
_NO_IMAGE = "No image has this id."


class _PicturePath(PathConverter):
    """A path, except for the addresses of other operations."""

    regex = r"(?!(?:archive|[0-9a-fA-F-]{36}(?:/[a-z]+)?)$)(?s:.+)"


def changes_blueprint(search: Search, uploads: Uploads, pending: PendingChanges | None, max_upload: int) -> Blueprint:
    """The views; `pending` is the uploads folder, or None if disabled, and `max_upload` the picture size in bytes."""
    blueprint = Blueprint("changes", __name__, url_prefix="/v1/images")
    blueprint.record_once(lambda state: state.app.url_map.converters.update(picture=_PicturePath))

    @blueprint.put("/<picture:image>")
    @operation(
        id="put_image",
        summary="Add an image, or replace one",
        tag="images",
        answer=ImageStatus,
        status=202,
        path=_PATH,
        picture=True,
        request_headers={
            "If-Match": _IF_MATCH.format(verb="replace"),
            "If-None-Match": "`*`: the path must not have an image yet, not even the same one.",
        },
        response_headers=("ETag", "Location"),
        links={name: {"image": "$response.body#/id"} for name in ("image_status", "delete_image")},
        problems={
            **_PROBLEMS,
            422: "The path or the picture is not valid.",
            428: "The path has another image, and the request has no If-Match.",
        },
    )
    def put(image: str) -> Response:
        """The picture is on disk before the response; searches find it once its status is `indexed`.

        The same picture may be sent again. Another picture replaces it only with its ETag in If-Match.
        """
        folder = _writable(pending)
        path = checked_path(image)
        if request.mimetype and not request.mimetype.startswith("image/") and request.mimetype not in PICTURE_TYPES:
            raise UnsupportedMediaType
        request.max_content_length = max_upload
        identity = point_id(path, _label(search, folder.folder))
        with folder.receive() as received:
            received.write(request.stream)
            uploads.check(received.file)
            change = folder.put(identity, path, received, _tags(request.if_match), request.if_none_match.star_tag)
        response = _accepted(_status(search, folder, identity, change))
        response.set_etag(received.sha256)
        return response

    @blueprint.delete("/<uuid:image>")
    @operation(
        id="delete_image",
        summary="Delete an image",
        tag="images",
        answer=ImageStatus,
        status=202,
        request_headers={"If-Match": _IF_MATCH.format(verb="delete")},
        response_headers=("Location",),
        problems={**_PROBLEMS, 404: _NO_IMAGE},
    )
    def delete(image: UUID) -> Response:
        """The file is deleted before the response; searches no longer find it once its status is `deleted`, or 404.

        Only images of the uploads folder can be deleted.
        """
        folder = _writable(pending)
        identity = str(image)
        earlier = folder.get(identity)
        path = earlier.path if earlier is not None else _path_of(search, folder.folder, identity)
        change = folder.delete(identity, path, _tags(request.if_match))
        return _accepted(_status(search, folder, identity, change))

    @blueprint.get("/<uuid:image>/status")
    @operation(
        id="image_status",
        summary="The status of an image",
        tag="images",
        answer=ImageStatus,
        problems={404: _NO_IMAGE},
    )
    def status(image: UUID) -> Response:
        """Whether searches find it, or how far its upload or deletion has progressed."""
        change = pending.get(str(image)) if pending is not None else None
        return json_response(_status(search, pending, str(image), change))

    return blueprint


def _writable(pending: PendingChanges | None) -> PendingChanges:
    if pending is None:
        raise Forbidden("this service does not accept pictures", "start it with --uploads FOLDER and --api-keys FILE")
    check_may_write()
    return pending


def _tags(header: ETags) -> set[str] | None:
    """The strong tags of the If-Match header; None if the header is missing."""
    return {*header.as_set(), *("*" for _ in range(header.star_tag))} if "If-Match" in request.headers else None


def _label(search: Search, folder: Path) -> str:
    """The label of the folder in image ids."""
    try:
        with search.follower.borrow() as snapshot:
            return label_of(str(folder), snapshot.collection.info.sources)
    except NothingIndexed:
        return label_of(str(folder), ())


def _path_of(search: Search, folder: Path, identity: str) -> str:
    """The path of an indexed image, relative to the folder.

    Raises:
        NotFound: no image has the id.
        Forbidden: the image is in another folder.
    """
    record, info = find_record(search, identity, deadline())
    payload = record.payload
    if info.sources[payload["source"]].folder != str(folder):
        raise Forbidden(f"the image {identity} is in another folder, not the one for uploads", "delete its file there")
    return relative_path(payload)


def _status(search: Search, pending: PendingChanges | None, identity: str, change: Change | None) -> ImageStatus:
    """The status of an image, from the live generation and its latest change, if any.

    Raises:
        NotFound: the image has neither a change nor a record.
    """
    if pending is not None and change is not None:
        # The index may have given the folder another label than was expected before it was indexed.
        identity = point_id(change.path, _label(search, pending.folder))
    indexed = _indexed(search, identity, change)
    if change is None:
        if indexed is None:
            raise NoSuchImage(identity)
        return ImageStatus(id=identity, state="indexed", etag=indexed)
    if change.action == "delete":
        return ImageStatus(id=identity, state="deleted" if change.settled and indexed is None else "deleting")
    # A current run may have started before the change: only a later one settles it.
    if change.settled and indexed == change.sha256:
        return ImageStatus(id=identity, state="indexed", etag=indexed)
    if change.reason:
        return ImageStatus(id=identity, state="refused", reason=change.reason, etag=change.sha256)
    return ImageStatus(id=identity, state="pending", etag=change.sha256)


def _indexed(search: Search, identity: str, change: Change | None) -> str | None:
    """The sha256 of an image in the live generation; None if it is not in it.

    Raises:
        NothingIndexed: there is no generation, and no change either.
    """
    try:
        record, _ = find_record(search, identity, deadline())
    except NoSuchImage:
        return None
    except NothingIndexed:
        if change is None:
            raise
        return None
    return str(record.payload["sha256"])


def _accepted(status: ImageStatus) -> Response:
    response = json_response(status, 202)
    response.location = f"{current_app.config['APPLICATION_ROOT']}/v1/images/{status.id}/status"
    response.autocorrect_location_header = False
    return response
