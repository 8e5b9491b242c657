"""`sceneseek evaluate`: measure a bundle."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sceneseek.options import aggregate_option, bundle_option, device_option, json_option, skip_unknown_option
from sceneseek.runtime import Device

if TYPE_CHECKING:
    from sceneseek_evaluation.figures import Bound, Figure
    from sceneseek_evaluation.ratings import Aggregation

_FILE = click.Path(path_type=Path)


def _shared_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every evaluation: bounds of figures, and the bootstrap of intervals."""
    options = (
        click.option(
            "--fail-below",
            metavar="METRIC=VALUE",
            multiple=True,
            help="Exit with 1 if this metric, for which higher is better, is below VALUE; may be repeated.",
        ),
        click.option(
            "--fail-above",
            metavar="METRIC=VALUE",
            multiple=True,
            help="Exit with 1 if this metric, for which lower is better, is above VALUE; may be repeated.",
        ),
        click.option(
            "--bootstrap",
            "replicates",
            type=click.IntRange(1, 1_000_000),
            default=1_000,
            show_default=True,
            help="Bootstrap replicates, by image, for the 95% intervals.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def evaluate() -> None:
    """Measure the quality of a bundle's results."""


@evaluate.command()
@bundle_option
@click.option("--images", type=_FILE, required=True, help="The folder of the captioned images.")
@click.option("--captions", type=_FILE, required=True, help="A TSV with the columns image and caption.")
@click.option("--split", type=_FILE, help="Use only these images: a file with one name per line.")
@_shared_options
@device_option
@json_option
def retrieval(
    bundle: Path,
    images: Path,
    captions: Path,
    split: Path | None,
    fail_below: tuple[str, ...],
    fail_above: tuple[str, ...],
    replicates: int,
    device: Device,
    as_json: bool,
) -> None:
    """Measure recall@k, median rank and MRR of each caption's own image, with a real index of the images.

    Figures that begin with `rescored.` are for the order of a search, by score; the others are for the order by cosine
    alone. With a column `language` (BCP 47 codes, empty if unknown), there are also figures per language, such as
    ru.recall@10, and mean.recall@10 over the languages.
    """
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.captions import read_captions  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415
    from sceneseek_evaluation.figures import Bootstrap, languages_of, names_by_language, read_bounds  # noqa: PLC0415
    from sceneseek_evaluation.retrieval import RETRIEVAL_FIGURES, evaluate_retrieval  # noqa: PLC0415

    rows = read_captions(captions, split)
    by_language = names_by_language(languages_of(rows), RETRIEVAL_FIGURES)
    bounds = read_bounds(fail_below, fail_above, [*RETRIEVAL_FIGURES, *by_language])
    with tempfile.TemporaryDirectory(prefix="sceneseek-evaluate-") as scratch:
        store = open_store(f"file:{scratch}/index")
        report = evaluate_retrieval(Bundle.load(bundle), images, rows, store, device, Bootstrap(replicates))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
    if report.missing and not as_json:
        click.echo(f"{report.missing:,} images of the captions file are missing and were left out", err=True)
    _fail_on_missed(bounds, report.figures)


@evaluate.command()
@bundle_option
@click.option("--images", type=_FILE, required=True, help="The folder that image names are relative to.")
@click.option("--captions", type=_FILE, required=True, help="A TSV with the columns image, caption_id and caption.")
@click.option("--expert", type=_FILE, required=True, help="Ratings: a TSV of image, caption_id, s1, s2, s3 (1 to 4).")
@click.option("--crowd", type=_FILE, help="Crowd labels: a TSV of image, caption_id, frac, yes, no.")
@aggregate_option
@skip_unknown_option
@_shared_options
@device_option
@json_option
def ratings(
    bundle: Path,
    images: Path,
    captions: Path,
    expert: Path,
    crowd: Path | None,
    aggregate: Aggregation,
    skip_unknown: bool,
    fail_below: tuple[str, ...],
    fail_above: tuple[str, ...],
    replicates: int,
    device: Device,
    as_json: bool,
) -> None:
    """Measure the agreement of the bundle's scores with human ratings: errors, correlations, calibration.

    Kendall's tau follows the published protocol of Flickr8k-Expert: it omits pairs whose caption was written for the
    image, and each rater's score is a data point; figures that end in `_all` include those pairs.
    """
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.captions import Captions  # noqa: PLC0415
    from sceneseek_evaluation.figures import Bootstrap, read_bounds  # noqa: PLC0415
    from sceneseek_evaluation.rating_files import read_crowd, read_expert  # noqa: PLC0415
    from sceneseek_evaluation.ratings_report import evaluate_ratings, ratings_figures  # noqa: PLC0415

    bounds = read_bounds(fail_below, fail_above, ratings_figures(with_crowd=crowd is not None))
    texts = Captions.read(captions)
    scores = read_expert(expert, images, texts, aggregate, skip_unknown)
    votes = None if crowd is None else read_crowd(crowd, images, texts, skip_unknown)
    files = [expert] if crowd is None else [expert, crowd]
    report = evaluate_ratings(Bundle.load(bundle), scores, votes, files, device, Bootstrap(replicates))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
    _fail_on_missed(bounds, report.figures)


@evaluate.command()
@bundle_option
@click.option("--images", type=_FILE, required=True, help="The folder of the captioned images.")
@click.option("--captions", type=_FILE, required=True, help="A TSV with the columns image and caption.")
@click.option("--split", type=_FILE, help="Use only these images: a file with one name per line.")
@click.option("--foreign", type=_FILE, help="Texts that describe none of the images, one per line.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Use this threshold instead of the bundle's.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the generated nonsense."
)
@_shared_options
@device_option
@json_option
def absence(
    bundle: Path,
    images: Path,
    captions: Path,
    split: Path | None,
    foreign: Path | None,
    threshold: float | None,
    seed: int,
    fail_below: tuple[str, ...],
    fail_above: tuple[str, ...],
    replicates: int,
    device: Device,
    as_json: bool,
) -> None:
    """Measure how often a search finds a match: for captions with and without their image, other texts, and nonsense.

    `match_rate` is the share of queries that have a match, `false_match_rate` the same for queries that should have
    none; `auc` is how often a caption whose image is in the collection has a higher best score than the other query.
    With a column `language`, there are also figures per language, as in `sceneseek evaluate retrieval`.
    """
    from sceneseek.bundle import Bundle, MatchThreshold  # noqa: PLC0415
    from sceneseek.captions import read_captions, read_texts  # noqa: PLC0415
    from sceneseek_evaluation.absence import ABSENCE_FIGURES, LANGUAGE_FIGURES, evaluate_absence  # noqa: PLC0415
    from sceneseek_evaluation.figures import Bootstrap, languages_of, names_by_language, read_bounds  # noqa: PLC0415

    rows = read_captions(captions, split)
    by_language = names_by_language(languages_of(rows), LANGUAGE_FIGURES)
    bounds = read_bounds(fail_below, fail_above, [*ABSENCE_FIGURES, *by_language])
    others = read_texts(foreign) if foreign is not None else []
    match = None if threshold is None else MatchThreshold(threshold=threshold, source="--threshold")
    report = evaluate_absence(Bundle.load(bundle), images, rows, others, seed, match, device, Bootstrap(replicates))
    click.echo(json.dumps(report.to_json(), indent=2) if as_json else "\n".join(report.lines()))
    _fail_on_missed(bounds, report.figures)


def _fail_on_missed(bounds: Sequence[Bound], figures: Mapping[str, Figure]) -> None:
    """Print the missed bounds, and exit with 1 if there are any."""
    from sceneseek_evaluation.figures import missed  # noqa: PLC0415 - so that --help is fast

    if lines := missed(bounds, figures):
        for line in lines:
            click.echo(f"error: {line}", err=True)
        sys.exit(1)
