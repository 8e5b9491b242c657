"""`sceneseek export`: write a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sceneseek.options import json_option, pack_option, weights_option


@click.command()
@pack_option
@weights_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="The bundle's directory.  [default: bundles/PACK]",
)
@click.option(
    "--alignment",
    type=click.Path(path_type=Path, file_okay=False),
    help="A joint space written by `sceneseek train alignment`; default: the one that comes with the pack.",
)
@click.option(
    "--head",
    type=click.Path(path_type=Path, file_okay=False),
    help="What `sceneseek train heads` wrote, or one head of it, or the word `cosine` for the alignment's own curve; "
    "default: the head that comes with the pack, beside its own alignment.",
)
@click.option(
    "--verify-on",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder of images on which to compare the graphs with the source models, beside drawn ones.",
)
@json_option
def export(
    pack_name: str,
    weights: dict[str, Path],
    out: Path | None,
    alignment: Path | None,
    head: Path | None,
    verify_on: Path | None,
    as_json: bool,
) -> None:
    """Put pretrained towers, a joint space and a head together into a bundle, and verify it."""
    from sceneseek.packs import find_pack  # noqa: PLC0415 - so that --help answers at once

    pack = find_pack(pack_name).with_local(weights)
    try:
        from export.bundle import export_bundle  # noqa: PLC0415 - imports torch
        from export.towers import load_towers  # noqa: PLC0415
        from export.trained import check_trained, find_trained  # noqa: PLC0415
    except ImportError as error:
        from sceneseek.errors import ExportError  # noqa: PLC0415

        raise ExportError(
            f"export needs a package that is not installed ({error})", "install sceneseek with the extra `export`"
        ) from error
    out = out or Path("bundles") / pack.name
    check_trained(pack, alignment, head)
    towers = load_towers(pack)
    bundle = export_bundle(pack, find_trained(pack, towers, alignment, head), out, verify_on, towers)
    manifest = bundle.manifest
    left_out = sorted({tower.name for tower in pack.towers} - {tower.name for tower in manifest.towers})
    if as_json:
        document = {
            "bundle": str(out),
            **manifest.fingerprints.model_dump(),
            "calibrated": manifest.head.calibrated,
            "left_out": left_out,
            "drift": manifest.drift,
        }
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"bundle       {out} ({pack.about})")
    click.echo(f"fingerprint  {manifest.fingerprints.bundle[:12]} (image graph {manifest.fingerprints.image[:12]})")
    click.echo(f"head         {manifest.head.kind}, joint space of {manifest.dimensions.joint} dimensions")
    if not manifest.head.calibrated:
        click.echo("scores       not calibrated: a default curve until `sceneseek train` has seen human ratings")
    if left_out:
        click.echo(f"left out     {', '.join(left_out)}: the head does not read them")
    drifts = ", ".join(f"{name} {gap:.1e}" for name, gap in manifest.drift.items())
    click.echo(f"drift        {drifts} (largest difference from the source models)")
