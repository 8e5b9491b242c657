"""The files that heads are trained on: captions with ratings, or the directory of a dataset.

All files are read and checked before any slow step. A dataset directory contains the ratings of Flickr8k in the layout
of a course's handout:

| file | content |
|---|---|
| ``train_dataset.csv`` | ``image``, ``query_id``, ``query_text``: separated by commas, quoted where needed |
| ``ExpertAnnotations.tsv`` | image, query id, three scores; no header, see `sceneseek_evaluation.ratings` |
| ``CrowdAnnotations.tsv`` | image, query id, share of yes, yes, no; no header |
| ``test_queries.csv`` | a nameless index, ``query_id``, ``query_text``, ``image``: separated by ``|`` |
| ``train_images/``, ``test_images/`` | the images |

Its files name images without their folder; this module names an image by its path in the directory, such as
``train_images/dog.jpg``. A row of the training data is a pair to rate, and its query may have been written for another
image, which its id names: ``dog.jpg#2``.
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
    """The input files: either a dataset directory, or images and captions with ratings.

    Attributes:
        images, captions: see `sceneseek_training.corpus`; feedback alone needs no captions.
        expert, crowd: see `sceneseek_evaluation.rating_files`.
        feedback: ratings exported from the service.
        dataset: a dataset directory, see the module's docstring.
        aggregate: how to combine several scores of a pair.
        skip_unknown: whether to skip ratings of unknown images and captions instead of failing.
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
    """The content of the input files.

    Attributes:
        captions: the captions of the images, rated or not; empty if not given.
        expert: the expert ratings.
        crowd: the crowd labels, or None.
        files: the files of ratings.
        aggregate: see `RatingFiles`.
        cite: source of the data; may be empty.
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
        raise InvalidRequest("there is nothing to train on", "give --images with --expert or --feedback, or --dataset")
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
        raise InvalidRequest("--dataset already contains images, captions and ratings", "omit the other options")
    dataset = read_dataset(sources.dataset)
    expert = read_expert(dataset.expert, dataset.images, dataset.captions, sources.aggregate, sources.skip_unknown)
    crowd = read_crowd(dataset.crowd, dataset.images, dataset.captions, sources.skip_unknown)
    for ratings in (expert, crowd):
        tested = sorted(set(ratings.names) & dataset.test_images)
        if tested:
            raise DataError(
                f"{ratings.label} rates {len(tested):,} test images, such as {tested[0]}",
                "heads must not be trained on test images; remove their ratings",
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
    """The content of a dataset directory, for `read_expert` and `read_crowd`.

    Attributes:
        images: the directory, which resolves ``dog.jpg`` to ``train_images/dog.jpg``.
        captions: the queries of the training data, each with the image it was written for.
        expert, crowd: the files of ratings.
        test_images: the paths of images that must not be trained on, relative to the directory.
    """

    images: ImageFolder
    captions: Captions
    expert: Path
    crowd: Path
    test_images: frozenset[str]


def read_dataset(directory: Path) -> RatedDataset:
    """Read the queries of a dataset and find its files; its ratings are not read.

    Test images are those in their folder and those named by test queries. An image in both folders is found in the
    first, but is a test image nevertheless.

    Raises:
        DataError: a file or folder is missing, cannot be read, or lacks a column; a row has too few or too many
            fields; a query id has two texts, or there are no queries.
    """
    _check_layout(directory)
    images = ImageFolder(directory, PLACES)
    captions = _captions(directory / TRAIN, images)
    named = {row["image"] for _, row in _read_csv(directory / TEST, "|", ("query_id", "query_text", "image"))}
    in_folder = {path.relative_to(directory / PLACES[1]).as_posix() for path in (directory / PLACES[1]).rglob("*")}
    # `find` omits folders, and names without a file.
    test = {found for name in named | in_folder if (found := images.find(name))}
    return RatedDataset(images, captions, directory / EXPERT, directory / CROWD, frozenset(test))


def _check_layout(directory: Path) -> None:
    missing = [name for name in (TRAIN, EXPERT, CROWD, TEST) if not (directory / name).is_file()]
    missing += [f"{name}/" for name in PLACES if not (directory / name).is_dir()]
    if missing:
        raise DataError(
            f"{directory} lacks {', '.join(missing)}",
            f"a dataset directory contains {', '.join((TRAIN, EXPERT, CROWD, TEST))} and the images in "
            + " and ".join(f"{name}/" for name in PLACES),
        )


def _captions(path: Path, images: ImageFolder) -> Captions:
    by_id: dict[str, Caption] = {}
    by_image: dict[str, list[str]] = {}
    for line, row in _read_csv(path, ",", ("image", "query_id", "query_text")):
        query_id, text = row["query_id"], row["query_text"]
        if not query_id or not text:
            raise DataError(f"line {line} of {path} has no query", "add its query_id and query_text")
        written_for, numbered, _ = query_id.rpartition("#")
        name = written_for if numbered else row["image"]
        caption = Caption(images.find(name) or f"{PLACES[0]}/{name}", text, query_id)
        known = by_id.setdefault(query_id, caption)
        if known is caption:
            by_image.setdefault(caption.image, []).append(text)
        elif known != caption:
            raise DataError(
                f"line {line} of {path} has another text or image for the id {query_id!r}",
                "give each query a unique id that names its image, such as dog.jpg#2",
            )
    if not by_id:
        raise DataError(f"{path} has a header but no queries", "add a row for each rated pair")
    return Captions(path, {image: tuple(texts) for image, texts in by_image.items()}, by_id)


def _read_csv(path: Path, separator: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a file with their line numbers; fields are stripped."""
    for row in read_table(path, "queries", columns, separator).rows:
        yield row.line, {name: text.strip() for name, text in row.fields.items()}
