"""`sceneseek export`: write a bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sceneseek.options import json_option, pack_option, weights_option

if TYPE_CHECKING:
    from sceneseek.bundle import Bundle, Manifest, Precision


_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@pack_option
@weights_option
@click.option("--out", type=_FOLDER, help="The bundle's directory.  [default: bundles/PACK]")
@click.option(
    "--alignment",
    type=_FOLDER,
    help="A joint space written by `sceneseek train alignment`; default: the pack's own.",
)
@click.option(
    "--head",
    type=_FOLDER,
    help="The output of `sceneseek train heads`, one head of it, or `cosine` for the alignment's calibrated cosine; "
    "default: the pack's own head if the alignment is the pack's own, else `cosine`.",
)
@click.option(
    "--verify-on",
    type=_FOLDER,
    help="Also compare the graphs with the source models on the images of this folder.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Precision of the towers: int8 for CPUs, fp16 for GPUs. Fails if the loss of accuracy is too large.",
)
@click.option(
    "--sample",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="With a lower precision, a folder of your own images: int8 is calibrated on some of them, and vectors and "
    "scores are compared with fp32 on the others.",
)
@click.option(
    "--captions",
    type=_FILE,
    help="Captions of the sample's images (image, caption_id, caption), to measure the loss of recall@5.",
)
@click.option("--split", type=_FILE, help="Measure recall on these images, one name per line.")
@click.option(
    "--expert",
    type=_FILE,
    help="Ratings of the sample's images (image, caption_id, s1, s2, ...), to measure the loss of tau-c.",
)
@click.option("--force", is_flag=True, help="Write the bundle even if the loss of accuracy is too large.")
@json_option
def export(
    pack_name: str,
    weights: dict[str, Path],
    out: Path | None,
    alignment: Path | None,
    head: Path | None,
    verify_on: Path | None,
    precision: Precision,
    sample: Path | None,
    captions: Path | None,
    split: Path | None,
    expert: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Combine pretrained towers, a joint space and a head in a bundle, and verify it."""
    from sceneseek_export.packs import find_pack  # noqa: PLC0415 - keeps --help fast

    pack = find_pack(pack_name).with_local(weights)
    measurement = (captions, split, expert)
    _check_options(precision, sample, measurement, force)
    try:
        from sceneseek_export.bundle import export_bundle  # noqa: PLC0415 - a hub pack's towers import torch
        from sceneseek_export.towers import load_towers  # noqa: PLC0415
        from sceneseek_export.trained import check_trained, find_trained  # noqa: PLC0415
    except ImportError as error:
        from sceneseek.errors import ExportError  # noqa: PLC0415

        raise ExportError(
            f"export needs a package that is not installed ({error})", "install sceneseek with the extra `export`"
        ) from error
    out = out or Path("bundles") / pack.name
    check_trained(pack, alignment, head)
    towers = load_towers(pack)
    trained = find_trained(pack, towers, alignment, head)
    quantization = None
    if sample:
        from sceneseek_export.accuracy_loss import AccuracyData  # noqa: PLC0415 - float32 needs none of the converters
        from sceneseek_export.quantization import Quantization  # noqa: PLC0415

        data = AccuracyData(sample, captions, split, expert) if captions else None
        quantization = Quantization(precision, sample, data, force)
    bundle = export_bundle(pack, trained, out, verify_on, towers, quantization)
    left_out = sorted({tower.name for tower in pack.towers} - {tower.name for tower in bundle.manifest.towers})
    if as_json:
        click.echo(json.dumps(_document(bundle, left_out), indent=2))
        return
    click.echo(f"bundle       {out} ({pack.about})")
    for line in _lines(bundle.manifest, left_out):
        click.echo(line)


def _check_options(
    precision: Precision, sample: Path | None, measurement: tuple[Path | None, ...], force: bool
) -> None:
    captions, split, expert = measurement
    if precision == "fp32" and (sample or any(measurement) or force):
        raise click.UsageError("--sample, --captions, --split, --expert and --force need a lower --precision")
    if precision != "fp32" and sample is None:
        raise click.UsageError(f"--precision {precision} needs --sample DIR, a folder of your own images")
    if (split or expert) and not captions:
        raise click.UsageError("--split and --expert need --captions")


def _document(bundle: Bundle, left_out: list[str]) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.path),
        **asdict(manifest.fingerprints),
        "calibrated": manifest.head.calibrated,
        "left_out": left_out,
        "precision": manifest.precision,
        "parity_error": manifest.parity_error,
        "accuracy_loss": manifest.accuracy_loss,
    }


def _lines(manifest: Manifest, left_out: list[str]) -> Iterator[str]:
    yield f"fingerprint  {manifest.fingerprints.bundle[:12]} (image graph {manifest.fingerprints.image[:12]})"
    yield f"head         {manifest.head.kind}, joint space of {manifest.dimensions.joint} dimensions"
    if not manifest.head.calibrated:
        yield "scores       not calibrated: a default curve; run `sceneseek train` with human ratings to calibrate"
    if left_out:
        yield f"left out     {', '.join(left_out)}: not read by the head"
    errors = ", ".join(f"{name} {error:.1e}" for name, error in manifest.parity_error.items())
    yield f"parity error {errors} (largest difference from the source models)"
    if manifest.precision != "fp32":
        from sceneseek_export.accuracy_loss import lines_of  # noqa: PLC0415

        yield f"precision    {manifest.precision}; compared with fp32:"
        yield from (f"             {line}" for line in lines_of(manifest.accuracy_loss))
