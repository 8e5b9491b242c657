"""`PUT /v1/images/PATH`, `DELETE /v1/images/ID` and `GET /v1/images/ID/status`: images are added and deleted.

The service puts a picture into a folder of the index, or deletes one there, and notes the change (see
`sceneseek.pending_changes`). The index is an indexer's: `sceneseek index watch` follows within seconds. What a status
says of searches is true of this service, since it looks into the generation that it searches.
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
from sceneseek_server.responses import deadline, json_answer

_PATH = {
    "type": "string",
    "pattern": PATH_PATTERN,
    "description": "The path that the picture gets in its folder; it ends as a picture's name does.",
    "examples": ["2024/beach.jpg"],
}
_IF_MATCH = "The ETag of the image that it {verb}, or `*` for any."
_PROBLEMS = {
    403: "The service takes no pictures, or the key may not write.",
    409: "Of the path, a part is no folder, or the end no file.",
    412: "The image is not as If-Match or If-None-Match says.",
    507: "There is no room for more pictures.",
}
_NO_IMAGE = "No image has this id."


class _PicturePath(PathConverter):
    """Any path below but the addresses that other operations have."""

    regex = r"(?!(?:archive|[0-9a-fA-F-]{36}(?:/[a-z]+)?)$)(?s:.+)"


def changes_blueprint(search: Search, uploads: Uploads, pending: PendingChanges | None, max_upload: int) -> Blueprint:
    """The views; pictures of at most `max_upload` bytes are put into the folder of `pending`, where None takes none."""
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
        headers={
            "If-Match": _IF_MATCH.format(verb="replaces"),
            "If-None-Match": "`*`: there must be none, not even one of the same content.",
        },
        answered=("ETag", "Location"),
        links={name: {"image": "$response.body#/id"} for name in ("image_status", "delete_image")},
        problems={
            **_PROBLEMS,
            422: "The path cannot be that of a picture, or the body is no picture.",
            428: "There is another image, and the request has no If-Match.",
        },
    )
    def put(image: str) -> Response:
        """The picture is on disk when it is answered; searches find it once its status is `indexed`.

        The same picture at the same path may be sent again. Another one replaces it only with its ETag in If-Match.
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
        headers={"If-Match": _IF_MATCH.format(verb="deletes")},
        answered=("Location",),
        problems={**_PROBLEMS, 404: _NO_IMAGE},
    )
    def delete(image: UUID) -> Response:
        """Its file is gone when it is answered; searches do not find it once its status is `deleted`, or 404.

        Only images of the folder into which pictures are put can be deleted.
        """
        folder = _writable(pending)
        identity = str(image)
        known = folder.get(identity)
        path = known.path if known is not None else _path_of(search, folder.folder, identity)
        change = folder.delete(identity, path, _tags(request.if_match))
        return _accepted(_status(search, folder, identity, change))

    @blueprint.get("/<uuid:image>/status")
    @operation(
        id="image_status",
        summary="What became of an image",
        tag="images",
        answer=ImageStatus,
        problems={404: _NO_IMAGE},
    )
    def status(image: UUID) -> Response:
        """Whether searches find it; of one that was put or deleted, how far that is."""
        change = pending.get(str(image)) if pending is not None else None
        return json_answer(_status(search, pending, str(image), change))

    return blueprint


def _writable(pending: PendingChanges | None) -> PendingChanges:
    if pending is None:
        raise Forbidden(
            "this service takes no pictures", "its operator starts it with --uploads FOLDER and --api-keys FILE"
        )
    check_may_write()
    return pending


def _tags(header: ETags) -> set[str] | None:
    """The strong tags of an If-Match header; None if there is no header."""
    return {*header.as_set(), *("*" for _ in range(header.star_tag))} if "If-Match" in request.headers else None


def _label(search: Search, folder: Path) -> str:
    """The label of the folder's images in their ids."""
    try:
        with search.follower.borrow() as snapshot:
            return label_of(str(folder), snapshot.collection.info.sources)
    except NothingIndexed:
        return label_of(str(folder), ())


def _path_of(search: Search, folder: Path, identity: str) -> str:
    """The path of an indexed image below the folder.

    Raises:
        NotFound: no image has the id.
        Forbidden: it lies in another folder.
    """
    record, info = find_record(search, identity, deadline())
    payload = record.payload
    if info.sources[payload["source"]].folder != str(folder):
        raise Forbidden(
            f"the image {identity} lies in another folder than those that are put", "delete its file where it is"
        )
    return relative_path(payload)


def _status(search: Search, pending: PendingChanges | None, identity: str, change: Change | None) -> ImageStatus:
    """What the generation that is searched, and the change if there is one, say of an image.

    Raises:
        NotFound: neither knows it.
    """
    if pending is not None and change is not None:
        # The folder may have got another label in the index than was to be expected before it was indexed.
        identity = point_id(change.path, _label(search, pending.folder))
    indexed = _indexed(search, identity, change)
    if change is None:
        if indexed is None:
            raise NoSuchImage(identity)
        return ImageStatus(id=identity, state="indexed", etag=indexed)
    if change.action == "delete":
        return ImageStatus(id=identity, state="deleted" if change.settled and indexed is None else "deleting")
    # A run that is going on may have begun before the change: only a later one settles it.
    if change.settled and indexed == change.sha256:
        return ImageStatus(id=identity, state="indexed", etag=indexed)
    if change.reason:
        return ImageStatus(id=identity, state="refused", reason=change.reason, etag=change.sha256)
    return ImageStatus(id=identity, state="pending", etag=change.sha256)


def _indexed(search: Search, identity: str, change: Change | None) -> str | None:
    """The sha256 of an image of the generation that is searched; None if it is not there.

    Raises:
        NothingIndexed: nothing is, and there is no change that would say more.
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
    response = json_answer(status, 202)
    response.location = f"{current_app.config['APPLICATION_ROOT']}/v1/images/{status.id}/status"
    response.autocorrect_location_header = False
    return response
