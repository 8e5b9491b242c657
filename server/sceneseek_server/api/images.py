"""`/v1/images/{id}`: the original file, its thumbnail, and its metadata."""

from __future__ import annotations

import contextlib
from uuid import UUID

from flask import Blueprint, Response, request, send_file
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from sceneseek.api import ImageDetails, read_fields
from sceneseek.containers import MAX_BYTES
from sceneseek.errors import ImageError, InvalidRequest, NotFound
from sceneseek.payload import describe
from sceneseek.queries import ArchiveArguments
from sceneseek.search import Search
from sceneseek_server.access.control import charge
from sceneseek_server.api.openapi import operation
from sceneseek_server.image_files import (
    MEDIA_TYPES,
    THUMBNAIL_MEDIA_TYPE,
    UNKNOWN,
    Decoders,
    ImageFile,
    Thumbnails,
    find_image,
    find_record,
    zip_archive,
)
from sceneseek_server.metrics import Metrics
from sceneseek_server.responses import deadline, json_response, public

ZIP = "application/zip"
_MAX_ARCHIVE_BYTES = 2 * 10**9
# The file of an id may change with the next index run: cached for ten minutes, then revalidated by its ETag.
CACHE_CONTROL = "private, max-age=600"
_NOT_FOUND = {404: "No image has this id, or its file is no longer in its folder."}


def images_blueprint(search: Search, metrics: Metrics, max_pixels: int, decoders: Decoders) -> Blueprint:
    """The views of one pipeline's live generation."""
    blueprint = Blueprint("images", __name__, url_prefix="/v1/images")
    thumbnails = Thumbnails(max_pixels, decoders=decoders, on_sent=metrics.thumbnail_sent)
    metrics.thumbnail_cache_bytes.set_function(lambda: thumbnails.cached_bytes)

    @blueprint.get("/<uuid:image>")
    @operation(
        id="image",
        summary="The original file",
        tag="images",
        answer=MEDIA_TYPES,
        problems=_NOT_FOUND,
        conditional=True,
        ranges=True,
    )
    def original(image: UUID) -> Response:
        """The unchanged file, or a range of its bytes."""
        return _original(find_image(search, image, deadline()))

    @blueprint.get("/<uuid:image>/thumbnail")
    @operation(
        summary="A thumbnail of the image",
        tag="images",
        answer=(THUMBNAIL_MEDIA_TYPE,),
        problems=_NOT_FOUND,
        conditional=True,
    )
    def thumbnail(image: UUID) -> Response:
        """A JPEG of at most 320 pixels a side, encoded from the pixels, without other data of the file."""
        file = find_image(search, image, deadline())
        with file.content:
            return _thumbnail(file, thumbnails)

    @blueprint.get("/archive")
    @operation(
        id="archive",
        summary="Several original files in one ZIP archive",
        tag="images",
        arguments=ArchiveArguments,
        answer=(ZIP,),
        problems=_NOT_FOUND,
    )
    def archive() -> Response:
        """The files under their own names, uncompressed, up to 2 GB."""
        requested = read_fields(ArchiveArguments, {name: request.args.getlist(name) for name in request.args})
        charge(len(set(requested.id)), images=True)
        images: list[ImageFile] = []
        with contextlib.ExitStack() as opened:
            for each in dict.fromkeys(requested.id):
                images.append(find_image(search, UUID(each), deadline()))
                opened.callback(images[-1].content.close)
            size = sum(image.facts.bytes for image in images)
            if size > _MAX_ARCHIVE_BYTES:
                raise InvalidRequest(
                    f"the files have {size:,} bytes, over {_MAX_ARCHIVE_BYTES:,}", "request fewer images"
                )
            close = opened.pop_all().close
        disposition = {"Content-Disposition": "attachment; filename=images.zip", "Cache-Control": "no-store"}
        response = Response(zip_archive(images), content_type=ZIP, headers=disposition)
        # Even if the response is not read, as for HEAD.
        response.call_on_close(close)
        return response

    @blueprint.get("/<uuid:image>/details")
    @operation(
        summary="The details of an image",
        tag="images",
        answer=ImageDetails,
        problems={404: "No image has this id."},
    )
    def details(image: UUID) -> Response:
        """Its size, format, metadata and number of near-duplicates."""
        record, _ = find_record(search, image, deadline())
        return json_response(public(ImageDetails(**describe(record))))

    return blueprint


def _original(image: ImageFile) -> Response:
    if request.range is None or request.range.units != "bytes" or len(request.range.ranges) != 1:
        request.environ.pop("HTTP_RANGE", None)  # RFC 9110: what is not understood or not supported is ignored
    response = send_file(
        image.content,
        image.media_type,
        as_attachment=image.media_type == UNKNOWN,
        download_name=image.name,
        etag=image.tag,
        last_modified=image.facts.mtime_ns / 1e9,
        conditional=False,
    )
    length = image.facts.bytes
    response.content_length = length
    try:
        response.make_conditional(request.environ, accept_ranges=True, complete_length=length)
    except RequestedRangeNotSatisfiable:
        response.close()
        raise
    response.headers["Cache-Control"] = CACHE_CONTROL
    return response


def _thumbnail(image: ImageFile, thumbnails: Thumbnails) -> Response:
    response = Response(content_type=THUMBNAIL_MEDIA_TYPE)
    response.headers["Cache-Control"] = CACHE_CONTROL
    response.set_etag(f"{image.tag}-thumbnail")
    if request.if_none_match.contains_weak(f"{image.tag}-thumbnail"):
        response.status_code = 304
        return response
    try:
        if image.facts.bytes > MAX_BYTES:
            raise ImageError("too-large", f"{image.facts.bytes:,} bytes, over {MAX_BYTES:,}")
        response.set_data(thumbnails.get(image.tag, image.content, deadline()))
    except OSError as error:
        raise NotFound(
            f"the file of {image.label} cannot be read ({error.strerror})", "index the folder again"
        ) from error
    except ImageError as error:
        hint = error.hint if error.reason == "too-large" else "index the folder again"
        raise NotFound(f"{image.label} has no thumbnail: {error.what}", hint) from error
    return response
