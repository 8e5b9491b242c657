"""What the service answers, as frozen dataclasses; the fields are those of its JSON documents.

A field with a default may be missing: services leave out what was not asked for, or is not shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How an image came to its rank.

    Attributes:
        rank_before: its place among the nearest neighbours of the query, from 1, before rescoring.
        rank_after: its place in the answer, from 1.
        text_similarity: cosine to the text alone; None without a text.
        image_similarity: cosine to the image that was searched by; None without one.
    """

    rank_before: int
    rank_after: int
    text_similarity: float | None
    image_similarity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDetails:
    """What the index knows of an image.

    Attributes:
        id: a UUID as text, the same in every generation.
        path: source-relative; None where the service does not show paths.
        width, height: in pixels, in its right orientation.
        format: such as ``JPEG``.
        metadata: the user's own.
        duplicates: how many other images of the index are near-duplicates of it.
        image: the address of the original; None where no service gives it.
        thumbnail: the address of a small JPEG; None where no service gives it.
    """

    id: str
    path: str | None = None
    width: int
    height: int
    format: str
    metadata: dict[str, Any]
    duplicates: int
    image: str | None = None
    thumbnail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(ImageDetails):
    """One image of an answer; unless they are kept, it stands for its near-duplicates too.

    Attributes:
        rank: its place in the answer, from 1.
        score: how well the text matches it, in [0, 1]; None where there is no text.
        match: whether that is a match; None where the service cannot tell.
        similarity: cosine to what was searched by.
        explanation: where it was asked for.
    """

    rank: int
    score: float | None
    match: bool | None
    similarity: float
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, best result first.

    Attributes:
        query: the text that was searched; None without one.
        truncated: whether its end was ignored because it was too long.
        match: False where nothing matches well and the results are only the nearest; None where that is not known.
        threshold: the least score of a match; None where there is none.
        results: at most k.
        offset: how many results come before them.
        next_offset: where to go on, with all else the same; None where nothing comes after.
        shortlist: how many candidates were scored.
        generation: what answered; pages of one search belong together if it is equal.
        bundle: fingerprint of the bundle that answered.
        calibrated: whether scores were learned from human ratings.
        timings_ms: milliseconds by stage, and ``total``.
    """

    query: str | None
    truncated: bool
    match: bool | None
    threshold: float | None
    results: tuple[Result, ...]
    offset: int
    next_offset: int | None
    shortlist: int
    generation: str
    bundle: str
    calibrated: bool
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What a text scores for one image: `id` is None for a picture that was sent."""

    id: str | None
    score: float
    match: bool | None
    similarity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a text scores for some images, in their order; the other fields are those of `Answer`."""

    query: str
    truncated: bool
    threshold: float | None
    scores: tuple[Scored, ...]
    generation: str
    bundle: str
    calibrated: bool
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One generation of the index.

    Attributes:
        name: the generation's.
        live: whether it answers now.
        images: how many it has.
        image_fingerprint: of the image graph that filled it.
        dimensions: of the joint space.
        created: when, in ISO 8601.
        fields: those with an index, for filters, and their types.
    """

    name: str
    live: bool
    images: int
    image_fingerprint: str
    dimensions: int
    created: str
    fields: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collections:
    """The generations of the index, oldest first.

    Attributes:
        live: the name of the one that answers.
        bundle: fingerprint of the bundle that answers.
        pack: its pack.
        collections: all of them.
    """

    live: str
    bundle: str
    pack: str
    collections: tuple[Collection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What became of a rating: `stored` is False if one of its key had been stored before."""

    stored: bool
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a service that is ready answers from.

    Attributes:
        pack: that of its bundle.
        generation: the name of the one that answers.
        images: how many it has.
        problem: why a newer generation is not followed; None if there is nothing wrong.
    """

    pack: str
    generation: str
    images: int
    problem: str | None = None
