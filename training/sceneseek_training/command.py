"""`sceneseek train`: train joint spaces, heads and thresholds for `sceneseek export`."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path

import click
from click.core import ParameterSource

from sceneseek.options import (
    aggregate_option,
    bundle_option,
    device_option,
    json_option,
    pack_option,
    skip_unknown_option,
    threads_option,
    weights_option,
)
from sceneseek.runtime import Device
from sceneseek_evaluation.ratings import Aggregation
from sceneseek_export.packs import find_pack

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
# Omitted from the command line on the card: they do not change the result, or the card already states them.
_NOT_ON_CARD = frozenset({"cache", "threads", "as_json", "cite", "report"})


@click.group()
def train() -> None:
    """Train a joint space on captions, and heads on human ratings, and choose the threshold of a match."""


@train.command()
@click.option("--images", type=_FOLDER, required=True, help="The folder that image names are relative to.")
@click.option(
    "--captions",
    type=_FILE,
    required=True,
    help="A TSV with the columns image and caption.",
)
@click.option(
    "--split", type=_FILE, help="Names of the images to train on, one per line; default: all that have captions."
)
@click.option(
    "--out", type=_FOLDER, required=True, help="The directory of the alignment; an existing alignment is replaced."
)
@click.option(
    "--validate-split",
    type=_FILE,
    help="Names of the images to measure recall on, one per line; none may be in --split.",
)
@click.option(
    "--expert", type=_FILE, help="Human ratings to calibrate on: a TSV of image, caption_id, s1, s2, ... (1 to 4)."
)
@skip_unknown_option
@click.option(
    "--also-measure",
    "galleries",
    type=(_FOLDER, _FILE),
    metavar="DIR FILE",
    multiple=True,
    help="Another folder and its captions to measure recall on; may be repeated.",
)
@click.option("--cite", help="The source of the data, for the card.")
@pack_option
@weights_option
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of all randomness.")
@click.option("--epochs", type=click.IntRange(1, 1000), help="Passes over the images; default: the recipe's.")
@click.option(
    "--cache",
    type=_FOLDER,
    default=Path(".cache/features"),
    show_default=True,
    help="The directory in which features are cached between runs.",
)
@device_option
@threads_option
@json_option
@click.pass_context
def alignment(
    ctx: click.Context,
    images: Path,
    captions: Path,
    split: Path | None,
    out: Path,
    validate_split: Path | None,
    expert: Path | None,
    skip_unknown: bool,
    galleries: tuple[tuple[Path, Path], ...],
    cite: str | None,
    pack_name: str,
    weights: dict[str, Path],
    seed: int,
    epochs: int | None,
    cache: Path,
    device: Device,
    threads: int,
    as_json: bool,
) -> None:
    """Train the joint space of a pack's towers on captions, and calibrate its score."""
    pack = find_pack(pack_name).with_local(weights)
    # Imported here so that --help is fast.
    import torch  # noqa: PLC0415

    from sceneseek_training.alignment import AlignmentTraining, check_out, write_alignment  # noqa: PLC0415
    from sceneseek_training.corpus import AlignmentFiles, read_alignment_data  # noqa: PLC0415
    from sceneseek_training.features import PackEncoder  # noqa: PLC0415
    from sceneseek_training.recipe import recipe_for  # noqa: PLC0415

    check_out(out)
    material = read_alignment_data(
        AlignmentFiles(images, captions, split, validate_split, expert, galleries, skip_unknown), seed
    )
    if threads:
        torch.set_num_threads(threads)
    encoder = PackEncoder(pack, cache, device, threads)
    recipe = recipe_for(pack, encoder.classifiers)
    if epochs:
        recipe = replace(recipe, epochs=epochs)
    card = {"data": {"captions": captions.name, "cite": cite}, "command": _command_line(ctx)}
    learned = AlignmentTraining(pack, recipe, seed, encoder).run(material, card)
    write_alignment(learned, out)
    found = learned.calibration
    if as_json:
        document = {"alignment": str(out), "recall": learned.card["recall"], "calibration": found.to_json()}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"alignment    {out} (joint vectors of {learned.joint} numbers)")
    for measured in learned.card["recall"]:
        recall = "/".join(f"{100 * measured[f'recall@{k}']:.1f}" for k in (1, 5, 10))
        click.echo(f"R@1/5/10     {recall} on {measured['name']} ({measured['images']:,} images)")
    figures = ", ".join(
        f"{name} {found.figures[name]}" for name in ("rmse", "mae", "spearman") if name in found.figures
    )
    click.echo(
        f"calibration  on {found.source}, {found.figures['pairs']:,} pairs" + (f": {figures}" if figures else "")
    )


@train.command()
@click.option("--images", type=_FOLDER, help="The folder that image names are relative to.")
@click.option("--captions", type=_FILE, help="A TSV of image, caption_id, caption.")
@click.option("--expert", type=_FILE, help="Ratings: a TSV of image, caption_id, s1, s2, s3 (1 to 4).")
@click.option("--crowd", type=_FILE, help="Crowd labels: a TSV of image, caption_id, frac, yes, no.")
@click.option("--feedback", type=_FILE, help="Ratings by users, as printed by `sceneseek feedback export`.")
@click.option("--dataset", type=_FOLDER, help="Instead of these: a directory with train_dataset.csv and so on.")
@click.option("--out", type=_FOLDER, required=True, help="The directory of the heads; existing heads are replaced.")
@click.option("--report", type=_FOLDER, default=Path("reports"), show_default=True, help="The directory of the report.")
@click.option("--pictures/--no-pictures", default=True, show_default=True, help="Whether the report shows images.")
@pack_option
@weights_option
@click.option("--bundle", type=_FOLDER, help="Instead of --pack: use the pack and the joint space of this bundle.")
@click.option("--alignment", "directory", type=_FOLDER, help="The joint space; default: the pack's own.")
@click.option(
    "--head", "names", multiple=True, metavar="NAME", help="Recipe of a head to train; may be repeated; default: all."
)
@aggregate_option
@skip_unknown_option
@click.option(
    "--folds", type=click.IntRange(2, 20), default=5, show_default=True, help="Number of folds of the cross-validation."
)
@click.option("--curves/--no-curves", default=True, show_default=True, help="Whether the report has learning curves.")
@click.option(
    "--bootstrap",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Bootstrap replicates for the intervals.",
)
@click.option("--cite", default="", help="The source of the data, for the cards.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of all randomness.")
@click.option(
    "--cache",
    type=_FOLDER,
    default=Path(".cache/features"),
    show_default=True,
    help="The directory in which features are cached between runs.",
)
@device_option
@threads_option
@json_option
@click.pass_context
def heads(
    ctx: click.Context,
    images: Path | None,
    captions: Path | None,
    expert: Path | None,
    crowd: Path | None,
    feedback: Path | None,
    dataset: Path | None,
    out: Path,
    report: Path,
    pictures: bool,
    pack_name: str,
    weights: dict[str, Path],
    bundle: Path | None,
    directory: Path | None,
    names: tuple[str, ...],
    aggregate: Aggregation,
    skip_unknown: bool,
    folds: int,
    curves: bool,
    bootstrap: int,
    cite: str,
    seed: int,
    cache: Path,
    device: Device,
    threads: int,
    as_json: bool,
) -> None:
    """Train heads on human ratings, cross-validate them without leaks, and choose the default by a rule."""
    from sceneseek_training.head_recipes import RECIPES, find_recipe  # noqa: PLC0415 - so that --help is fast
    from sceneseek_training.rating_data import RatingFiles, read_rating_data  # noqa: PLC0415

    recipes = tuple(find_recipe(name) for name in names) or tuple(RECIPES.values())
    # Read before torch is imported, so that errors in files are reported at once.
    sources = RatingFiles(images, captions, expert, crowd, feedback, dataset, aggregate, skip_unknown)
    material = read_rating_data(sources, cite)
    from sceneseek_export.trained import check_space, find_pack_of, find_space  # noqa: PLC0415
    from sceneseek_training.features import PackEncoder  # noqa: PLC0415
    from sceneseek_training.head_training import (  # noqa: PLC0415
        HeadPlan,
        check_heads_out,
        check_report_out,
        train_heads,
        write_heads,
    )
    from sceneseek_training.report import write_report  # noqa: PLC0415

    check_heads_out(out)
    check_report_out(report)
    pack = find_pack_of(bundle, pack_name).with_local(weights)
    check_space(pack, directory)
    encoder = PackEncoder(pack, cache, device, threads)
    joint_space = find_space(pack, encoder.towers, bundle, directory)
    plan = HeadPlan(recipes, folds, seed, curves, bootstrap)
    comparison, learned = train_heads(plan, pack, joint_space, encoder, material, _command_line(ctx))
    write_heads(comparison, learned, out)
    write_report(comparison, report, pictures)
    strict = [result for result in comparison.results if result.grouping == "image and caption"]
    if as_json:
        found = {result.recipe.name: result.agreement.to_json() for result in strict}
        document = {
            "heads": str(out),
            "default": comparison.selection.name,
            "report": str(report),
            "cross_validated": found,
        }
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"cross-validated by image and caption, {len(comparison.ratings):,} pairs")
    for result in strict:
        values = {key: figure.value for key, figure in result.agreement.figures.items()}
        line = "  ".join(f"{key} {_number(values[key])}" for key in ("rmse", "mae", "spearman", "kendall_tau_c", "ece"))
        click.echo(f"{result.recipe.name:<20}{line}")
    click.echo(f"default      {comparison.selection.name}: " + " ".join(comparison.selection.reasons))
    click.echo(f"heads        {out}")
    click.echo(f"report       {report}/report.html")


@train.command()
@bundle_option
@click.option(
    "--head",
    "directory",
    type=_FOLDER,
    required=True,
    help="The head that the bundle was exported with; its threshold is set.",
)
@click.option("--images", type=_FOLDER, required=True, help="The folder that image names are relative to.")
@click.option("--captions", type=_FILE, required=True, help="A TSV with the columns image and caption.")
@click.option("--split", type=_FILE, help="Use only these images: a file with one name per line.")
@click.option("--foreign", type=_FILE, required=True, help="Texts that describe none of the images, one per line.")
@click.option(
    "--alignment",
    "space",
    type=_FOLDER,
    help="The joint space that the bundle was exported with; default: the pack's own.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Bootstrap replicates for the intervals.",
)
@click.option("--cite", default="", help="The source of the data, for the card.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the generated nonsense."
)
@device_option
@json_option
@click.pass_context
def threshold(
    ctx: click.Context,
    bundle: Path,
    directory: Path,
    images: Path,
    captions: Path,
    split: Path | None,
    foreign: Path,
    space: Path | None,
    bootstrap: int,
    cite: str,
    seed: int,
    device: Device,
    as_json: bool,
) -> None:
    """Choose the minimum score of a match, and write it into the head; export the bundle again afterwards.

    The joint space must not have been trained on the images.
    """
    from sceneseek.bundle import Bundle  # noqa: PLC0415 - so that --help is fast
    from sceneseek.captions import read_captions, read_texts  # noqa: PLC0415

    rows = read_captions(captions, split)
    texts = read_texts(foreign)
    from sceneseek_evaluation.figures import Bootstrap  # noqa: PLC0415
    from sceneseek_training.threshold import ThresholdData, fit_threshold, write_threshold  # noqa: PLC0415

    files = (captions, foreign) if split is None else (captions, foreign, split)
    data = ThresholdData(images, rows, texts, files, cite)
    found = fit_threshold(
        Bundle.load(bundle), directory, space, data, _command_line(ctx), seed, device, Bootstrap(bootstrap)
    )
    write_threshold(found, directory)
    if as_json:
        click.echo(json.dumps({"head": str(directory), **asdict(found)}, indent=2))
        return
    click.echo(f"threshold    {found.threshold:g}, balanced accuracy {found.figures['balanced_accuracy']:.4f}")
    for name, figure in found.figures.items():
        if isinstance(figure, dict) and "value" in figure:
            click.echo(f"{name:<28}{_number(figure['value'])}")
    click.echo(f"head         {directory}; export the bundle again")


def _number(value: float | None) -> str:
    return "-     " if value is None else f"{value:.4f}"


def _command_line(ctx: click.Context) -> str:
    """Return the command line with the given options, without directories of this machine."""
    words = ["sceneseek", "train", str(ctx.info_name)]
    for option in ctx.command.params:
        name = str(option.name)
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in _NOT_ON_CARD:
            continue
        value = ctx.params[name]
        if isinstance(value, bool):
            words += [option.opts[0]] if value else []
            continue
        for entry in value if option.multiple else (value,):
            parts = entry if isinstance(entry, tuple) else (entry,)
            words += [option.opts[0], *(part.name if isinstance(part, Path) else str(part) for part in parts)]
    return shlex.join(words)
