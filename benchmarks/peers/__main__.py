"""`python -m benchmarks.peers`: sceneseek compared with similar programs, with the same weights, interleaved."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from PIL import Image

from benchmarks.peers.programs import CLIP, PROGRAMS, Installed, Program
from benchmarks.report import Figure, Report, Section, json_option
from benchmarks.timing import other_load, rotated
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
    help="Environments and weights are kept there for the next run; about 1 GB per program, more with torch.",
)
@click.option(
    "--programs",
    default="sceneseek,rclip,fastembed,sentence-transformers",
    show_default=True,
    help="Programs, separated by commas; the first is compared with the second.",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True),
    help="A CLIP of 256 pixels in the model hub's layout.  [default: ViT-B/32 with random weights]",
)
@click.option("--images", type=click.IntRange(1), default=1000, show_default=True, help="Small images to index.")
@click.option("--large", type=click.IntRange(0), default=300, show_default=True, help="Images of 3000 x 2000.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of each measurement.")
@click.option("--searches", type=click.IntRange(1), default=3, show_default=True, help="Cold searches per round.")
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
    """Measure installing, indexing, adding and searching on one machine; each program has its own environment.

    All run the same graphs, so differences are the programs' own overhead. Pin the cores with taskset.
    """
    chosen = [Installed(_named(name), home.absolute() / name) for name in programs.split(",")]
    _prepare(chosen, checkpoint, home.absolute())
    small_photos = _copied(photos, home.absolute() / f"photos-{images}", images)
    large_photos = _enlarged(photos, home.absolute() / f"large-{large}", large)
    columns = {
        f"index {images:,} small JPEG": lambda peer: peer.index(peer.fresh("small"), small_photos),
        f"unchanged run over {images:,}": lambda peer: peer.index(peer.home / "small", small_photos),
        f"{_ADDED} added to {images:,}": lambda peer: _with_added(peer, small_photos, photos),
        f"search, cold, {images:,} images": lambda peer: min(
            peer.search(peer.home / "small", small_photos) for _ in range(searches)
        ),
    }
    if large:
        columns[f"index {large:,} JPEG of {_LARGE[0]} x {_LARGE[1]}"] = lambda peer: peer.index(
            peer.fresh("large"), large_photos
        )
    report = Report()
    notes: list[str] = [peer.versions() for peer in chosen]
    with other_load(notes.append):
        found = _measured(chosen, columns, rounds)
    for column, values in found.items():
        report.sections.append(_section(column, "s", values))
    peaks = {peer.program.name: [peer.peak(peer.fresh("small"), small_photos)] for peer in chosen}
    report.sections.append(_section(f"memory of indexing {images:,}", "MB", peaks))
    report.sections.append(_section("fresh install", "MB", {peer.program.name: [peer.megabytes()] for peer in chosen}))
    packages = {peer.program.name: [float(peer.packages())] for peer in chosen}
    report.sections.append(_section("packages", "", packages))
    report.sections[-1].notes += notes
    report.write(json_file)


def _named(name: str) -> Program:
    found = [program for program in PROGRAMS if program.name == name]
    if not found:
        raise click.BadParameter(f"unknown program {name}", param_hint="--programs")
    return found[0]


def _prepare(chosen: Sequence[Installed], checkpoint: Path | None, home: Path) -> None:
    """Install the programs, and write the weights in the form that each reads, unless they exist."""
    for peer in chosen:
        click.echo(f"peers: {peer.program.name}", err=True)
        peer.install()
    missing = [peer for peer in chosen if not peer.weights.exists()]
    if not missing:
        return
    if checkpoint is None:
        from tests import checkpoints  # noqa: PLC0415 - brings torch

        checkpoint = checkpoints.clip(home / "checkpoint", true_size=True, pixels=256)
    pack = find_pack("clip").with_local({CLIP: checkpoint})
    towers = load_towers(pack)
    for peer in missing:
        peer.write_weights(checkpoint, pack, towers)


def _copied(photos: Path, folder: Path, count: int) -> Path:
    """Copy photos into a folder, a hundred per subfolder."""
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
    existing = {path.name for path in folder.rglob("*.jpg")}
    new = [path for path in sorted(photos.rglob("*.jpg"), reverse=True) if path.name not in existing][:_ADDED]
    places = [folder / path.name for path in new]
    try:
        for path, place in zip(new, places, strict=True):
            shutil.copy(path, place)
        yield
    finally:
        for place in places:
            place.unlink(missing_ok=True)


def _with_added(peer: Installed, folder: Path, photos: Path) -> float:
    with _added(folder, photos):
        return peer.index(peer.home / "small", folder)


def _measured(
    chosen: Sequence[Installed], columns: dict[str, Callable[[Installed], float]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds by column and program: each round runs every column of all programs, starting with another program."""
    found: dict[str, dict[str, list[float]]] = {
        column: {peer.program.name: [] for peer in chosen} for column in columns
    }
    for number in range(rounds):
        for column, run in columns.items():
            for peer in rotated(chosen, number):
                seconds = run(peer)
                found[column][peer.program.name].append(seconds)
                click.echo(f"round {number + 1}: {column}: {peer.program.name} {seconds:.2f} s", err=True)
    return found


def _section(title: str, unit: str, values: dict[str, list[float]]) -> Section:
    """The figure of each program; the first is compared with the second."""
    first, *rest = values
    against = rest[:1]
    figures = [Figure(first, unit, values[first], *((against[0], values[against[0]]) if against else ()))]
    return Section(title, [*figures, *(Figure(name, unit, values[name]) for name in rest)])


peers()
