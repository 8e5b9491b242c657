"""What a training of heads is given: captions and ratings, read and checked before anything slow begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sceneseek.captions import Captions
from sceneseek.errors import DataError, InvalidRequest
from sceneseek_evaluation.ratings import Aggregation, Ratings, pooled, read_crowd, read_expert, read_feedback
from sceneseek_training.course import read_course


@dataclass(frozen=True)
class RatingSources:
    """The files: either a course's directory, or images and captions with ratings.

    Attributes:
        images, captions: as for `sceneseek_training.sources`; not needed for feedback alone, but for its images.
        expert, crowd: see `sceneseek_evaluation.ratings`.
        feedback: what the service wrote down.
        course: a directory, see `sceneseek_training.course`.
        aggregate: what becomes of several scores of a pair.
        skip_unknown: leave out ratings of unknown images and captions, rather than fail.
    """

    images: Path | None = None
    captions: Path | None = None
    expert: Path | None = None
    crowd: Path | None = None
    feedback: Path | None = None
    course: Path | None = None
    aggregate: Aggregation = "mean"
    skip_unknown: bool = False


@dataclass(frozen=True)
class RatingMaterial:
    """The files' content.

    Attributes:
        captions: of the images, rated or not; empty where none were given.
        expert: what is learned and measured.
        votes: the crowd's, or None.
        files: of the ratings.
        aggregate: see `RatingSources`.
        cite: whose data this is; may be empty.
    """

    captions: Captions
    expert: Ratings
    votes: Ratings | None
    files: tuple[Path, ...]
    aggregate: Aggregation
    cite: str = ""


def read_rating_material(sources: RatingSources, cite: str = "") -> RatingMaterial:
    """Read and check all files.

    Raises:
        InvalidRequest: options are missing, or exclude each other.
        DataError: a file cannot be read, or nothing usable is left.
    """
    if sources.course is not None:
        return _of_course(sources, cite)
    if sources.images is None or (sources.expert is None and sources.feedback is None):
        raise InvalidRequest("nothing to learn from", "give --images with --expert or --feedback, or --course")
    if sources.captions is None and (sources.expert or sources.crowd):
        raise InvalidRequest("ratings refer to captions by their ids", "give --captions")
    captions = Captions.read(sources.captions) if sources.captions else Captions(Path(), {}, {})
    rated: list[Ratings] = []
    if sources.expert is not None:
        rated.append(read_expert(sources.expert, sources.images, captions, sources.aggregate, sources.skip_unknown))
    if sources.feedback is not None:
        rated.append(read_feedback(sources.feedback, sources.images, sources.aggregate, sources.skip_unknown))
    expert = pooled(rated, sources.aggregate) if sources.feedback is not None else rated[0]
    votes = read_crowd(sources.crowd, sources.images, captions, sources.skip_unknown) if sources.crowd else None
    files = tuple(path for path in (sources.expert, sources.feedback, sources.crowd) if path is not None)
    return RatingMaterial(captions, expert, votes, files, sources.aggregate, cite)


def _of_course(sources: RatingSources, cite: str) -> RatingMaterial:
    others = (sources.images, sources.captions, sources.expert, sources.crowd, sources.feedback)
    if sources.course is None or any(path is not None for path in others):
        raise InvalidRequest("--course names images, captions and ratings itself", "leave the other options out")
    course = read_course(sources.course)
    expert = read_expert(course.expert, course.images, course.captions, sources.aggregate, sources.skip_unknown)
    votes = read_crowd(course.crowd, course.images, course.captions, sources.skip_unknown)
    for ratings in (expert, votes):
        tested = sorted(set(ratings.names) & course.test_images)
        if tested:
            raise DataError(
                f"{ratings.label} rates {len(tested):,} images of the test, {tested[0]} among them",
                "ratings of test images may not be learned from; take them out",
            )
    return RatingMaterial(course.captions, expert, votes, (course.expert, course.crowd), sources.aggregate, cite)
