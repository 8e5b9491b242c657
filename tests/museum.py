"""A small museum for tests of the page: drawn images of several aspect ratios, with metadata and duplicates."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from PIL import Image

from sceneseek.bundle import MANIFEST, Bundle, MatchThreshold
from tests.drawing import NAMES, draw_gallery, scenery

PAINTINGS = 72
# A file and its near-duplicates.
COPIES = {"paintings/03.jpg": ("paintings/03 small.jpg", "paintings/03 again.jpg")}
_SIZES = ((480, 320), (320, 480), (400, 400), (640, 256))
_ROOMS = ("Red Room", "Blue Room", "Stairs")


def build_museum(home: Path) -> tuple[Path, Path]:
    """Draw the images below a folder and describe them; returns the image folder and the metadata file."""
    pictures = draw_gallery(home / "pictures")
    (pictures / "paintings").mkdir()
    for seed in range(PAINTINGS):
        scenery(seed, *_SIZES[seed % len(_SIZES)]).save(pictures / f"paintings/{seed:02}.jpg", quality=88)
    for original, copies in COPIES.items():
        with Image.open(pictures / original) as image:
            for number, copy in enumerate(copies, start=1):
                image.resize((image.width // (number + 1), image.height // (number + 1))).save(pictures / copy)
    metadata = home / "metadata.csv"
    names = [*NAMES, *(f"paintings/{seed:02}.jpg" for seed in range(PAINTINGS))]
    with metadata.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "title", "room", "year", "acquired", "taken", "lent", "tags"])
        for number, name in enumerate(names):
            title = f"{Path(name).stem.capitalize()}, drawn"
            acquired = f"20{10 + number % 10}-0{1 + number % 9}-15"
            tags = ";".join(["drawn", name.split("/")[0]])
            taken = f"2021-{1 + number % 3:02}-0{1 + number % 9}T10:00:00"
            lent = "false" if number % 4 else "true"
            row = [name, title, _ROOMS[number % 3], 1900 + number, acquired, taken, lent, tags]
            table.writerow(row)
    return pictures, metadata


def strict_bundle(bundle: Bundle, home: Path, threshold: float, multilingual: bool = False) -> Path:
    """Copy a bundle with another match threshold, as drawn images score low, and another `multilingual` flag."""
    home.mkdir()
    for name in bundle.manifest.files:
        (home / name).symlink_to(bundle.path / name)
    head = replace(bundle.manifest.head, match=MatchThreshold(threshold=threshold, source="a test"))
    texts = tuple(replace(text, multilingual=multilingual) for text in bundle.manifest.text_inputs)
    bundle.manifest.changed(head=head, text_inputs=texts).write(home / MANIFEST)
    return home
