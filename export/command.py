"""`sceneseek export`: write a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sceneseek.options import json_option


@click.command()
@click.option("--pack", "pack_name", default="compact", show_default=True, help="Which towers to put together.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bundles/compact"),
    show_default=True,
    help="The bundle's directory.",
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
    pack_name: str, out: Path, alignment: Path | None, head: Path | None, verify_on: Path | None, as_json: bool
) -> None:
    """Put pretrained towers, a joint space and a head together into a bundle, and verify it."""
    from sceneseek.packs import find_pack  # noqa: PLC0415 - so that --help answers at once

    pack = find_pack(pack_name)
    try:
        from export.bundle import Trained, export_bundle, shipped_alignment  # noqa: PLC0415 - imports torch
    except ImportError as error:
        from sceneseek.errors import ExportError  # noqa: PLC0415

        raise ExportError(
            f"export needs a package that is not installed ({error})", "install sceneseek with the extra `export`"
        ) from error
    if head is None and alignment is None:
        trained = Trained.shipped(pack)
    else:
        trained = Trained.load(alignment or shipped_alignment(pack), None if head == Path("cosine") else head)
    bundle = export_bundle(pack, trained, out, verify_on)
    manifest = bundle.manifest
    if as_json:
        document = {"bundle": str(out), **manifest.fingerprints.model_dump(), "drift": manifest.drift}
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"bundle       {out} ({pack.about})")
    click.echo(f"fingerprint  {manifest.fingerprints.bundle[:12]} (image graph {manifest.fingerprints.image[:12]})")
    click.echo(f"head         {manifest.head.kind}, joint space of {manifest.dimensions.joint} dimensions")
    drifts = ", ".join(f"{name} {gap:.1e}" for name, gap in manifest.drift.items())
    click.echo(f"drift        {drifts} (largest difference from the source models)")
