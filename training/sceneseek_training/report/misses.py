"""The pairs that a head misses most, with their pictures where these may be shown."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from sceneseek.decode import decode
from sceneseek.errors import ImageError
from sceneseek.ratings import HIGHEST, LOWEST, Ratings
from sceneseek_training.report.document import Card, Cards, Cell, Row, Table
from sceneseek_training.report.measures import DASH, decimal, signed
from sceneseek_training.study import Grouping, Study

MOST = 12
SIDE, QUALITY = 160, 80  # of a thumbnail, in pixels, and of its JPEG


def worst(study: Study, name: str, grouping: Grouping, pictures: bool) -> Cards | Table:
    """The pairs with the largest gap between score and rating, the worst first.

    Without pictures it is a table of the images' names and of numbers, and no file is opened.
    """
    ratings, predicted = study.ratings, study.of(name, grouping).predicted
    order = np.argsort(-np.abs(study.gaps(name, grouping)), kind="stable")[:MOST]
    facts = [_facts(ratings, pair, float(predicted[pair])) for pair in order]
    names = [ratings.names[ratings.image[pair]] for pair in order]
    captions = [ratings.captions[ratings.caption[pair]] for pair in order]
    texts = ("caption",) if pictures else ()
    rows = tuple(
        Row(Cell(image), tuple(Cell(text) for text in ((caption,) if pictures else ()) + tuple(dict(known).values())))
        for image, caption, known in zip(names, captions, facts, strict=True)
    )
    table = Table(f"The {len(order)} worst misses", ("image", *texts, *dict(facts[0])), rows, words=1 + len(texts))
    if not pictures:
        return table
    cards = []
    for pair, image, caption, known in zip(order, names, captions, facts, strict=True):
        picture, flaw = _thumbnail(ratings, int(ratings.image[pair]))
        cards.append(Card(image, picture, flaw, caption, known))
    return Cards(tuple(cards), table)


def _facts(ratings: Ratings, pair: int, predicted: float) -> tuple[tuple[str, str], ...]:
    given = ratings.scores[pair][~np.isnan(ratings.scores[pair])]
    levels = ", ".join(f"{level:.0f}" for level in np.rint(given * (HIGHEST - LOWEST) + LOWEST))
    rated = float(ratings.target[pair])
    return (
        (f"raters ({LOWEST} to {HIGHEST})", levels or DASH),
        ("mean rating", decimal(rated)),
        ("score", decimal(predicted)),
        ("gap", signed(predicted - rated)),
    )


def _thumbnail(ratings: Ratings, image: int) -> tuple[str, str]:
    """A data URI, or why there is none: a study must not fail at its end because a file has gone."""
    try:
        pixels = decode(ratings.paths[image].read_bytes(), near=SIDE).pixels
    except ImageError as error:
        return "", error.what
    except OSError as error:
        return "", f"cannot be read ({error.strerror})"
    pixels.thumbnail((SIDE, SIDE))
    if pixels.mode == "RGBA":
        white = Image.new("RGBA", pixels.size, "white")
        pixels = Image.alpha_composite(white, pixels).convert("RGB")
    content = io.BytesIO()
    pixels.save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode('ascii')}", ""
