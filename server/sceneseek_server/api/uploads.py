"""Pictures that come with a request: few at a time are decoded, and of each no more pixels are kept than are looked at.

So what the pictures of all requests together may take is bounded: two whole ones, and small ones for the others. How
large a form may be is decided by access control: one picture may be as large as all may be together.
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
from sceneseek_server.admission import Decoders
from sceneseek_server.responses import deadline

# The part of a form that holds a picture, and how often it may come.
PICTURE, MAX_PICTURES = "file", MAX_TERMS


class Uploads:
    """Reads uploaded pictures, of which the bundle of `search` says how many pixels suffice."""

    def __init__(self, search: Search, max_pixels: int, decoders: Decoders) -> None:
        self._search, self._max_pixels, self._decoders = search, max_pixels, decoders

    def pictures(self) -> list[Picture]:
        """The pictures of the request that is being answered: from one to `MAX_PICTURES`.

        Raises:
            UnsupportedMediaType: the body is no form.
            RequestEntityTooLarge: it is larger than uploads may be.
            InvalidRequest: there are none or too many of them, or parts of another name.
            ImageError: one of them is no whole picture, with its number where there are several.
            RateLimited: they are more than the sender's rate.
            DeadlinePassed: the request's time was over before all were decoded.
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
            what = f"there are {len(files)} parts of the name {PICTURE}"
            raise InvalidRequest(what, f"send 1 to {MAX_PICTURES} pictures")
        charge(len(files))
        near = enough_pixels(self._search.bundle.manifest.image_inputs)
        return [
            self._decoded(file, near, number if len(files) > 1 else 0) for number, file in enumerate(files, start=1)
        ]

    def check(self, file: BinaryIO) -> None:
        """Decode a picture that is to be put into the index's folder, at the least size: whole all the same.

        Raises:
            ImageError: it is no whole picture.
            DeadlinePassed: the request's time was over before it was decoded.
        """
        with self._decoding("the picture"):
            decode(file, 1, self._max_pixels, deadline=deadline())

    def _decoded(self, file: FileStorage, near: int, number: int) -> Picture:
        with self._decoding(f"picture {number}" if number else "the picture"):
            # Bytes, for what decoding may do to a file of werkzeug's is not ours.
            return reduced(decode(file.stream.read(), near, self._max_pixels, deadline=deadline()), near)

    @contextlib.contextmanager
    def _decoding(self, which: str) -> Iterator[None]:
        """Wait for the block's turn to decode, and name the picture in its error."""
        try:
            with self._decoders.one(deadline()):
                yield
        except ImageError as error:
            hint = "send a smaller one" if error.reason == "too-large" else "send a JPEG, PNG, WebP or GIF"
            raise ImageError(error.reason, f"{which}: {error.what}", hint) from error
