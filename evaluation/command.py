"""`sceneseek evaluate`: figures of a bundle."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from sceneseek.options import bundle_option, device_option, json_option
from sceneseek.runtime import Device


@click.group()
def evaluate() -> None:
    """Measure how good a bundle's answers are."""


@evaluate.command()
@bundle_option
@click.option("--images", type=click.Path(path_type=Path), required=True, help="The folder of the captioned images.")
@click.option(
    "--captions", type=click.Path(path_type=Path), required=True, help="A TSV with the columns image and caption."
)
@click.option("--split", type=click.Path(path_type=Path), help="Only these images: a file with one name a line.")
@device_option
@json_option
def retrieval(bundle: Path, images: Path, captions: Path, split: Path | None, device: Device, as_json: bool) -> None:
    """Recall@k, median rank and MRR of each caption's own image, through a real index of the images."""
    from evaluation.retrieval import evaluate_retrieval  # noqa: PLC0415 - so that --help answers at once
    from sceneseek.bundle import Bundle  # noqa: PLC0415
    from sceneseek.captions import read_captions, read_split  # noqa: PLC0415
    from sceneseek.store import open_store  # noqa: PLC0415

    rows = read_captions(captions)
    if split is not None:
        chosen = set(read_split(split))
        rows = [row for row in rows if row.image in chosen]
    with tempfile.TemporaryDirectory(prefix="sceneseek-evaluate-") as scratch:
        report = evaluate_retrieval(Bundle.load(bundle), images, rows, open_store(f"file:{scratch}/index"), device)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
        return
    figures = report.figures
    click.echo(f"{report.queries:,} captions of {report.images:,} images, bundle {report.bundle[:12]}")
    shares = "/".join(f"{100 * share:.1f}" for share in figures.recall.values())
    click.echo(f"recall@{'/'.join(map(str, figures.recall))} {shares} %")
    click.echo(f"median rank {figures.median_rank:.0f}, mean reciprocal rank {figures.mrr:.3f}")
    if report.missing:
        click.echo(f"{report.missing:,} images of the captions file are missing and were left out", err=True)
