"""Uploaded pictures: few are decoded at a time, and each is reduced to the pixels that the model needs.

This bounds the memory of all requests together. Access control limits the size of a form, which is also the maximum
size of a single picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

from flask import request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import UnsupportedMediaType

from sceneseek.errors import ImageError, InvalidRequest
from sceneseek.picture import Picture, decode, reduced
from sceneseek.preprocess import enough_pixels
from sceneseek.search import Search
from sceneseek.terms import MAX_TERMS
from sceneseek_server.access.control import FORM, charge
from sceneseek_server.image_files import Decoders
from sceneseek_server.responses import deadline

# The form part of a picture, and how often it may be repeated.
PICTURE, MAX_PICTURES = "file", MAX_TERMS


class Uploads:
    """Reads uploaded pictures, reduced to the size that the bundle of `search` needs."""

    def __init__(self, search: Search, max_pixels: int, decoders: Decoders) -> None:
        self._search, self._max_pixels, self._decoders = search, max_pixels, decoders

    def pictures(self) -> list[Picture]:
        """The pictures of the current request, 1 to `MAX_PICTURES`.

        Raises:
            UnsupportedMediaType: the body is not a form.
            RequestEntityTooLarge: the body is too large.
            InvalidRequest: there are no pictures, too many pictures, or files in other parts.
            ImageError: a picture is invalid; names its number if there are several.
            RateLimited: the pictures exceed the caller's rate limit.
            DeadlinePassed: the deadline passed before all pictures were decoded.
        """
        if request.mimetype != FORM:
            raise UnsupportedMediaType
        files = request.files.getlist(PICTURE)
        if unknown := sorted(str(name or "") for name in set(request.files) - {PICTURE}):  # a part may have no name
            raise InvalidRequest(f"the file part {unknown[0][:40]!r} is unknown", f"send the picture as {PICTURE}")
        if not files and PICTURE in request.form:
            hint = f"send it as a file: curl -F {PICTURE}=@photo.jpg"
            raise InvalidRequest(f"the part {PICTURE} has no file name", hint)
        if not 1 <= len(files) <= MAX_PICTURES:
            what = f"there are {len(files)} parts named {PICTURE}"
            raise InvalidRequest(what, f"send 1 to {MAX_PICTURES} pictures")
        charge(len(files))
        pixels = enough_pixels(self._search.bundle.manifest.image_inputs)
        return [
            self._decoded(file, pixels, number if len(files) > 1 else 0) for number, file in enumerate(files, start=1)
        ]

    def check(self, file: BinaryIO) -> None:
        """Check that a picture for the uploads folder is complete, by decoding it at the smallest size.

        Raises:
            ImageError: the picture is invalid or incomplete.
            DeadlinePassed: the deadline passed before it was decoded.
        """
        with self._decoding("the picture"):
            decode(file, 1, self._max_pixels, deadline=deadline())

    def _decoded(self, file: FileStorage, pixels: int, number: int) -> Picture:
        with self._decoding(f"picture {number}" if number else "the picture"):
            # Bytes, since decoding might close or alter Werkzeug's file.
            return reduced(decode(file.stream.read(), pixels, self._max_pixels, deadline=deadline()), pixels)

    @contextlib.contextmanager
    def _decoding(self, which: str) -> Iterator[None]:
        """Wait for a decoder, and name the picture in errors of the block."""
        try:
            with self._decoders.slot(deadline()):
                yield
        except ImageError as error:
            hint = "send a smaller one" if error.reason == "too-large" else "send a JPEG, PNG, WebP or GIF"
            raise ImageError(error.reason, f"{which}: {error.what}", hint) from error
