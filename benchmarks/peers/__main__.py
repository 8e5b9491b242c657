"""`python -m benchmarks.peers`: sceneseek beside programs of the same kind, with the same weights, in turns."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from PIL import Image

from benchmarks.peers.programs import CLIP, PROGRAMS, Installed, Program
from benchmarks.report import Figure, Report, Section, json_option
from benchmarks.timing import others, rotated
from sceneseek_export.packs import find_pack
from sceneseek_export.towers import load_towers

_LARGE = (3000, 2000)
_ADDED = 10


@click.command()
@click.option("--photos", type=click.Path(path_type=Path, exists=True), required=True, help="A folder of JPEG files.")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    required=True,
    help="Environments and weights are kept there for the next run, some 1 GB a program and more with torch.",
)
@click.option(
    "--programs",
    default="sceneseek,rclip,fastembed,sentence-transformers",
    show_default=True,
    help="Which, by comma; the second is what the first is compared with.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True),
    help="A CLIP of 256 pixels in the model hub's layout.  [default: ViT-B/32 with weights drawn at random]",
)
@click.option("--images", type=click.IntRange(1), default=1000, show_default=True, help="Small images to index.")
@click.option("--large", type=click.IntRange(0), default=300, show_default=True, help="Images of 3000 x 2000.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Of each measurement.")
@click.option("--searches", type=click.IntRange(1), default=3, show_default=True, help="Cold searches a round.")
@json_option
def peers(  # noqa: PLR0913, PLR0917 - as many as there are options
    photos: Path,
    home: Path,
    programs: str,
    checkpoint: Path | None,
    images: int,
    large: int,
    rounds: int,
    searches: int,
    json_file: Path | None,
) -> None:
    """Measure what a user of one machine waits for: install, index, add, search; each program in its own environment.

    All compute the same graphs, so the images per second tell what a program adds to them. Pin the cores with taskset.
    """
    chosen = [Installed(_named(name), home.absolute() / name) for name in programs.split(",")]
    _prepare(chosen, checkpoint, home.absolute())
    small_photos = _copied(photos, home.absolute() / f"photos-{images}", images)
    large_photos = _enlarged(photos, home.absolute() / f"large-{large}", large)
    columns = {
        f"index {images:,} small JPEG": lambda one: one.index(one.fresh("small"), small_photos),
        f"unchanged run over {images:,}": lambda one: one.index(one.home / "small", small_photos),
        f"{_ADDED} added to {images:,}": lambda one: _with_added(one, small_photos, photos),
        f"search, cold, {images:,} images": lambda one: min(
            one.search(one.home / "small", small_photos) for _ in range(searches)
        ),
    }
    if large:
        columns[f"index {large:,} JPEG of {_LARGE[0]} x {_LARGE[1]}"] = lambda one: one.index(
            one.fresh("large"), large_photos
        )
    report = Report()
    notes: list[str] = [one.versions() for one in chosen]
    with others(notes.append):
        found = _measured(chosen, columns, rounds)
    for column, values in found.items():
        report.sections.append(_section(column, "s", values))
    peaks = {one.program.name: [one.peak(one.fresh("small"), small_photos)] for one in chosen}
    report.sections.append(_section(f"memory of indexing {images:,}", "MB", peaks))
    report.sections.append(_section("fresh install", "MB", {one.program.name: [one.megabytes()] for one in chosen}))
    packages = {one.program.name: [float(one.packages())] for one in chosen}
    report.sections.append(_section("packages", "", packages))
    report.sections[-1].notes += notes
    report.write(json_file)


def _named(name: str) -> Program:
    found = [program for program in PROGRAMS if program.name == name]
    if not found:
        raise click.BadParameter(f"there is no program {name}", param_hint="--programs")
    return found[0]


def _prepare(chosen: Sequence[Installed], checkpoint: Path | None, home: Path) -> None:
    """Install the programs, and write the weights in each one's form, unless they are there."""
    for one in chosen:
        click.echo(f"peers: {one.program.name}", err=True)
        one.install()
    missing = [one for one in chosen if not one.weights.exists()]
    if not missing:
        return
    if checkpoint is None:
        from tests import checkpoints  # noqa: PLC0415 - brings torch

        checkpoint = checkpoints.clip(home / "checkpoint", true_size=True, pixels=256)
    pack = find_pack("clip").with_local({CLIP: checkpoint})
    towers = load_towers(pack)
    for one in missing:
        one.write_weights(checkpoint, pack, towers)


def _copied(photos: Path, folder: Path, count: int) -> Path:
    """So many photos in a folder; a hundred a folder below it."""
    for number, photo in enumerate(_jpeg(photos, count)):
        place = folder / f"{number // 100:03d}" / photo.name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, place)
    return folder


def _enlarged(photos: Path, folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for photo in _jpeg(photos, count):
        if not (folder / photo.name).exists():
            Image.open(photo).resize(_LARGE, Image.Resampling.BICUBIC).save(folder / photo.name, quality=90)
    return folder


def _jpeg(photos: Path, count: int) -> list[Path]:
    found = sorted(photos.rglob("*.jpg"))[:count]
    if len(found) < count:
        raise click.BadParameter(f"there are only {len(found):,} JPEG files in {photos}", param_hint="--photos")
    return found


@contextmanager
def _added(folder: Path, photos: Path) -> Iterator[None]:
    there = {path.name for path in folder.rglob("*.jpg")}
    new = [path for path in sorted(photos.rglob("*.jpg"), reverse=True) if path.name not in there][:_ADDED]
    places = [folder / path.name for path in new]
    try:
        for path, place in zip(new, places, strict=True):
            shutil.copy(path, place)
        yield
    finally:
        for place in places:
            place.unlink(missing_ok=True)


def _with_added(one: Installed, folder: Path, photos: Path) -> float:
    with _added(folder, photos):
        return one.index(one.home / "small", folder)


def _measured(
    chosen: Sequence[Installed], columns: dict[str, Callable[[Installed], float]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds by column and program: in each round each column of all programs, each time another one first."""
    found: dict[str, dict[str, list[float]]] = {column: {one.program.name: [] for one in chosen} for column in columns}
    for number in range(rounds):
        for column, run in columns.items():
            for one in rotated(chosen, number):
                seconds = run(one)
                found[column][one.program.name].append(seconds)
                click.echo(f"round {number + 1}: {column}: {one.program.name} {seconds:.2f} s", err=True)
    return found


def _section(title: str, unit: str, values: dict[str, list[float]]) -> Section:
    """Each program's figure; the first one's beside the second's."""
    first, *rest = values
    against = rest[:1]
    figures = [Figure(first, unit, values[first], *((against[0], values[against[0]]) if against else ()))]
    return Section(title, [*figures, *(Figure(name, unit, values[name]) for name in rest)])


peers()
