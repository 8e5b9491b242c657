"""The files that heads are trained on: captions with ratings, or a dataset's directory.

Everything is read and checked before anything slow begins. A dataset's directory holds the ratings of Flickr8k in the
layout in which a course hands them out to its students:

| file | what |
|---|---|
| ``train_dataset.csv`` | ``image``, ``query_id``, ``query_text``: separated by commas, quoted where needed |
| ``ExpertAnnotations.tsv`` | image, query id, three scores; no header, see `sceneseek_evaluation.ratings` |
| ``CrowdAnnotations.tsv`` | image, query id, share of yes, yes, no; no header |
| ``test_queries.csv`` | a nameless index, ``query_id``, ``query_text``, ``image``: separated by ``|`` |
| ``train_images/``, ``test_images/`` | the images |

Its files name images without their folder. Here an image is named by its path in the directory, such as
``train_images/dog.jpg``. A row of the training data is a pair to rate: its query need not have been written for
its image. What it was written for is said by its id, ``dog.jpg#2``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sceneseek.captions import Caption, Captions
from sceneseek.errors import DataError, InvalidRequest
from sceneseek.tables import read_table
from sceneseek_evaluation.rating_files import ImageFolder, read_crowd, read_expert, read_feedback
from sceneseek_evaluation.ratings import Aggregation, Ratings, pooled


@dataclass(frozen=True)
class RatingFiles:
    """The files: either a dataset's directory, or images and captions with ratings.

    Attributes:
        images, captions: as for `sceneseek_training.corpus`; not needed for feedback alone, but for its images.
        expert, crowd: see `sceneseek_evaluation.ratings`.
        feedback: ratings exported from the service.
        dataset: a directory, see `sceneseek_training.rating_data`.
        aggregate: what becomes of several scores of a pair.
        skip_unknown: leave out ratings of unknown images and captions, rather than fail.
    """

    images: Path | None = None
    captions: Path | None = None
    expert: Path | None = None
    crowd: Path | None = None
    feedback: Path | None = None
    dataset: Path | None = None
    aggregate: Aggregation = "mean"
    skip_unknown: bool = False


@dataclass(frozen=True)
class RatingData:
    """The files' content.

    Attributes:
        captions: of the images, rated or not; empty where none were given.
        expert: what is learned and measured.
        crowd: the crowd's, or None.
        files: of the ratings.
        aggregate: see `RatingFiles`.
        cite: whose data this is; may be empty.
    """

    captions: Captions
    expert: Ratings
    crowd: Ratings | None
    files: tuple[Path, ...]
    aggregate: Aggregation
    cite: str = ""


def read_rating_data(sources: RatingFiles, cite: str = "") -> RatingData:
    """Read and check all files.

    Raises:
        InvalidRequest: options are missing, or exclude each other.
        DataError: a file cannot be read, or nothing usable is left.
    """
    if sources.dataset is not None:
        return _of_dataset(sources, cite)
    if sources.images is None or (sources.expert is None and sources.feedback is None):
        raise InvalidRequest("nothing to learn from", "give --images with --expert or --feedback, or --dataset")
    if sources.captions is None and (sources.expert or sources.crowd):
        raise InvalidRequest("ratings refer to captions by their ids", "give --captions")
    captions = Captions.read(sources.captions) if sources.captions else Captions(Path(), {}, {})
    rated: list[Ratings] = []
    if sources.expert is not None:
        rated.append(read_expert(sources.expert, sources.images, captions, sources.aggregate, sources.skip_unknown))
    if sources.feedback is not None:
        rated.append(read_feedback(sources.feedback, sources.images, sources.aggregate, sources.skip_unknown))
    expert = pooled(rated, sources.aggregate) if sources.feedback is not None else rated[0]
    crowd = read_crowd(sources.crowd, sources.images, captions, sources.skip_unknown) if sources.crowd else None
    files = tuple(path for path in (sources.expert, sources.feedback, sources.crowd) if path is not None)
    return RatingData(captions, expert, crowd, files, sources.aggregate, cite)


def _of_dataset(sources: RatingFiles, cite: str) -> RatingData:
    others = (sources.images, sources.captions, sources.expert, sources.crowd, sources.feedback)
    if sources.dataset is None or any(path is not None for path in others):
        raise InvalidRequest("--dataset names images, captions and ratings itself", "leave the other options out")
    dataset = read_dataset(sources.dataset)
    expert = read_expert(dataset.expert, dataset.images, dataset.captions, sources.aggregate, sources.skip_unknown)
    crowd = read_crowd(dataset.crowd, dataset.images, dataset.captions, sources.skip_unknown)
    for ratings in (expert, crowd):
        tested = sorted(set(ratings.names) & dataset.test_images)
        if tested:
            raise DataError(
                f"{ratings.label} rates {len(tested):,} images of the test, {tested[0]} among them",
                "ratings of test images may not be learned from; take them out",
            )
    return RatingData(dataset.captions, expert, crowd, (dataset.expert, dataset.crowd), sources.aggregate, cite)


TRAIN, EXPERT, CROWD, TEST = (
    "train_dataset.csv",
    "ExpertAnnotations.tsv",
    "CrowdAnnotations.tsv",
    "test_queries.csv",
)
PLACES = ("train_images", "test_images")


@dataclass(frozen=True)
class RatedDataset:
    """What a dataset's directory holds, as `read_expert` and `read_crowd` take it.

    Attributes:
        images: the directory, in which they find ``dog.jpg`` as ``train_images/dog.jpg``.
        captions: the queries of the training data, each with the image it was written for.
        expert, crowd: the files of ratings.
        test_images: the names of images that must not be learned from, with their folder.
    """

    images: ImageFolder
    captions: Captions
    expert: Path
    crowd: Path
    test_images: frozenset[str]


def read_dataset(directory: Path) -> RatedDataset:
    """Read a dataset's queries and find its files; the ratings are left to `sceneseek_evaluation.ratings`.

    Images of the test are those in their folder and those that the test's queries name. One that lies in both
    folders is found in the first, and is an image of the test nevertheless.

    Raises:
        DataError: a file or folder is missing, cannot be read, or lacks a column; a row has too few or too many
            fields; one query id stands for two texts, or no query is there.
    """
    _check_layout(directory)
    images = ImageFolder(directory, PLACES)
    captions = _captions(directory / TRAIN, images)
    named = {row["image"] for _, row in _read_csv(directory / TEST, "|", ("query_id", "query_text", "image"))}
    lying = {path.relative_to(directory / PLACES[1]).as_posix() for path in (directory / PLACES[1]).rglob("*")}
    # A folder's name is none of an image, and one that the test names without a file is of no one to learn from.
    test = {found for name in named | lying if (found := images.find(name))}
    return RatedDataset(images, captions, directory / EXPERT, directory / CROWD, frozenset(test))


def _check_layout(directory: Path) -> None:
    missing = [name for name in (TRAIN, EXPERT, CROWD, TEST) if not (directory / name).is_file()]
    missing += [f"{name}/" for name in PLACES if not (directory / name).is_dir()]
    if missing:
        raise DataError(
            f"{directory} lacks {', '.join(missing)}",
            f"a dataset's directory holds {', '.join((TRAIN, EXPERT, CROWD, TEST))} and the images in "
            + " and ".join(f"{name}/" for name in PLACES),
        )


def _captions(path: Path, images: ImageFolder) -> Captions:
    by_id: dict[str, Caption] = {}
    by_image: dict[str, list[str]] = {}
    for line, row in _read_csv(path, ",", ("image", "query_id", "query_text")):
        query_id, text = row["query_id"], row["query_text"]
        if not query_id or not text:
            raise DataError(f"line {line} of {path} has no query", "give it its query_id and query_text")
        written_for, numbered, _ = query_id.rpartition("#")
        name = written_for if numbered else row["image"]
        caption = Caption(images.find(name) or f"{PLACES[0]}/{name}", text, query_id)
        known = by_id.setdefault(query_id, caption)
        if known is caption:
            by_image.setdefault(caption.image, []).append(text)
        elif known != caption:
            raise DataError(
                f"line {line} of {path} has another text or image for the id {query_id!r}",
                "give each query an id of its own, such as dog.jpg#2 for the image it was written for",
            )
    if not by_id:
        raise DataError(f"{path} holds a header but no queries", "add a row for each rated pair")
    return Captions(path, {image: tuple(texts) for image, texts in by_image.items()}, by_id)


def _read_csv(path: Path, separator: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a file, without white space around their fields, each with the number of its line."""
    for row in read_table(path, "queries", columns, separator).rows:
        yield row.line, {name: text.strip() for name, text in row.fields.items()}
