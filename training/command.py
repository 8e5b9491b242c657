"""`sceneseek train`: learn what export puts into a bundle."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from sceneseek.errors import DataError
from sceneseek.options import device_option, json_option, threads_option
from sceneseek.packs import find_pack
from sceneseek.runtime import Device

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
# Left out of the command line on the card: they change nothing, or stand there already.
_UNSAID = frozenset({"cache", "threads", "as_json", "cite"})


@click.group()
def train() -> None:
    """Learn a joint space from images and captions."""


@train.command()
@click.option("--images", type=_FOLDER, required=True, help="The folder that image names are relative to.")
@click.option(
    "--captions",
    type=_FILE,
    required=True,
    help="A TSV with the columns image and caption (Flickr8k's layout is one).",
)
@click.option(
    "--split", type=_FILE, help="Names of the images to learn from, one a line; default: all that have captions."
)
@click.option("--out", type=_FOLDER, required=True, help="Where the alignment goes; one that is there is replaced.")
@click.option("--validate-split", type=_FILE, help="Names of images to measure recall on; none may be in --split.")
@click.option(
    "--expert", type=_FILE, help="Human ratings to calibrate on: a TSV of image, caption_id, s1, s2, ... (1 to 4)."
)
@click.option("--skip-unknown", is_flag=True, help="Leave out ratings of unknown images or captions, and say which.")
@click.option(
    "--also-measure",
    "galleries",
    type=(_FOLDER, _FILE),
    metavar="DIR FILE",
    multiple=True,
    help="Another folder and its captions to measure recall on; may be repeated.",
)
@click.option("--cite", help="Whose data this is, for the card.")
@click.option("--pack", "pack_name", default="compact", show_default=True, help="Which towers to align.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of everything random.")
@click.option("--epochs", type=click.IntRange(1, 1000), help="Passes over the images; default: the recipe's.")
@click.option(
    "--cache",
    type=_FOLDER,
    default=Path(".cache/features"),
    show_default=True,
    help="Where features are kept between runs.",
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
    seed: int,
    epochs: int | None,
    cache: Path,
    device: Device,
    threads: int,
    as_json: bool,
) -> None:
    """Learn the joint space of a pack's towers from captions, and calibrate its score."""
    pack = find_pack(pack_name)
    try:
        # Imported here so that --help answers at once, and so that a missing extra is said in a line.
        import torch  # noqa: PLC0415

        from training.alignment import AlignmentTraining, check_out, write_alignment  # noqa: PLC0415
        from training.images import ImageTowers  # noqa: PLC0415
        from training.recipe import recipe_for  # noqa: PLC0415
        from training.sources import Sources, read_material  # noqa: PLC0415
        from training.texts import TextTower  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            f"training needs a package that is not installed ({error})", "install sceneseek with the extra `export`"
        ) from error
    check_out(out)
    material = read_material(Sources(images, captions, split, validate_split, expert, galleries, skip_unknown), seed)
    if threads:
        torch.set_num_threads(threads)
    image_towers, text_tower = ImageTowers(pack, cache, device, threads), TextTower(pack, cache, device, threads)
    recipe = recipe_for(pack, {spec.name for spec in pack.image_towers if image_towers.classifies(spec.name)})
    if epochs:
        recipe = replace(recipe, epochs=epochs)
    card = {"data": {"captions": captions.name, "cite": cite}, "command": _command_line(ctx)}
    learned = AlignmentTraining(pack, recipe, seed, image_towers, text_tower).run(material, card)
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


def _command_line(ctx: click.Context) -> str:
    """The options that were given, without this machine's folders."""
    words = ["sceneseek", "train", str(ctx.info_name)]
    for option in ctx.command.params:
        name = str(option.name)
        if ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE or name in _UNSAID:
            continue
        value = ctx.params[name]
        if isinstance(value, bool):
            words += [option.opts[0]] if value else []
            continue
        for one in value if option.multiple else (value,):
            parts = one if isinstance(one, tuple) else (one,)
            words += [option.opts[0], *(part.name if isinstance(part, Path) else str(part) for part in parts)]
    return shlex.join(words)
