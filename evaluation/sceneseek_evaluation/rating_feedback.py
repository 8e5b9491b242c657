"""Ratings that users of the service gave: JSON lines, as `sceneseek feedback export` prints them."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sceneseek.errors import DataError, InvalidRequest
from sceneseek.request import checked_query
from sceneseek.tables import read_objects
from sceneseek_evaluation.rating_tables import ImageFolder, as_folder, image_name
from sceneseek_evaluation.ratings import NO_IMAGE, Aggregation, Found, Pair, Ratings, score_of, scored

log = logging.getLogger(__name__)


def read_feedback(
    path: Path, folder: Path | ImageFolder, aggregate: Aggregation = "mean", skip_unknown: bool = False
) -> Ratings:
    """Read exported ratings: a pair's caption is the query, in the form that is searched.

    Of one rater's ratings of a pair the last one counts; each line without a rater is a rater of its own. Nobody
    knows whether a query was written for an image, so `own` is False.

    Args:
        path: the file.
        folder: where the images lie; names are relative to it.
        aggregate: see `read_expert`.
        skip_unknown: see `read_expert`.

    Raises:
        DataError: no such file, empty, or not UTF-8; a line that is no such object, or whose rating is no whole
            number from 1 to 4; an image's name that leads out of the folder; an unknown image; no usable
            rating. Equal ones are no error here, since a little feedback is pooled with other ratings.
    """
    images = as_folder(folder)
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(15) == b"SQLite format 3":
            raise DataError(f"{path} is the service's own file", "name what `sceneseek feedback export` prints")
    lines = list(read_objects(path, "ratings"))
    missing: list[str] = []
    latest: dict[tuple[str, Pair] | int, tuple[Pair, int]] = {}
    superseded = 0
    for line, document in lines:
        entry = _entry(document, line, path)
        image = images.find(entry.image)
        if image is None:
            missing.append(entry.image)
            continue
        pair = image, entry.query
        whose = (entry.rater, pair) if entry.rater else line
        superseded += whose in latest
        latest[whose] = pair, entry.rating
    found = Found(path.name, path)
    found.leave_out(len(lines), {NO_IMAGE: missing}, skip_unknown)
    if superseded:
        found.merged["superseded"] = superseded
        log.info("%s: %d ratings superseded by later ones of the same rater", path, superseded)
    for pair, rating in latest.values():
        found.add(pair, images.root / pair[0], (rating,), own=False)
    return scored(found, aggregate, varied=False)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of feedback, read and checked; `rater` is empty where nobody is named."""

    query: str
    image: str
    rating: int
    rater: str


def _entry(document: Mapping[str, Any], line: int, path: Path) -> _Entry:
    where = f"line {line} of {path}"
    missing = [name for name in ("query", "image", "rating") if name not in document]
    if missing:
        raise DataError(f"{where} has no {missing[0]!r}", "each line needs query, image and rating")
    texts: dict[str, Any] = {
        name: document[name] for name in ("query", "image", "rater") if document.get(name) is not None
    }
    for name, text in texts.items():
        if not isinstance(text, str):
            raise DataError(f"{where} has {json.dumps(text)[:40]!r} in {name}", "write a text there")
    try:
        query = checked_query(texts.get("query", ""))
    except InvalidRequest as error:
        raise DataError(f"{where}: {error.what}", "remove the line, or repair its query") from error
    image = image_name(texts.get("image", ""), line, path)
    return _Entry(query, image, score_of(json.dumps(document["rating"]), line, path, "rating"), texts.get("rater", ""))
