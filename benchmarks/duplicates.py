"""Which copies are recognised, and which pictures are taken for copies: the thresholds' price, by measurement.

    python -m benchmarks.duplicates --bundle bundles/compact --images DIR

Copies of photographs are made in memory in each way that `KINDS` names. A copy is recognised where its joint vector
and its fingerprint are both near the original's; a false pair is two of the originals for which that holds.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageOps

from sceneseek.bundle import Bundle
from sceneseek.decode import decode
from sceneseek.encoders import ImageEncoder
from sceneseek.preprocess import enough_pixels, prepare
from sceneseek.vectors import Floats
from sceneseek_indexer.duplicates import (
    COPY_COSINE,
    COPY_SHARE,
    CROP_COSINE,
    CROP_LEAST,
    CROP_SHARE,
    near_duplicates,
    weight,
)
from sceneseek_indexer.fingerprint import fingerprint
from sceneseek_indexer.pipeline import batched
from sceneseek_indexer.walk import list_images

Bits = npt.NDArray[np.uint8]
_WRITTEN: dict[str, Any] = {"format": "JPEG", "quality": 92}


def _cropped(image: Image.Image) -> Image.Image:
    """Without 2.5 % at each edge."""
    across, down = round(image.width * 0.025), round(image.height * 0.025)
    return image.crop((across, down, image.width - across, image.height - down))


def _written(image: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **{**_WRITTEN, **how})
    return buffer.getvalue()


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "half the size": lambda image: _written(image.resize((image.width // 2, image.height // 2))),
    "JPEG of quality 40": lambda image: _written(image, quality=40),
    "PNG": lambda image: _written(image, format="PNG"),
    "WebP of quality 80": lambda image: _written(image, format="WEBP", quality=80),
    "10 % brighter": lambda image: _written(ImageEnhance.Brightness(image).enhance(1.1)),
    "grey": lambda image: _written(image.convert("L")),
    "5 % cropped": lambda image: _written(_cropped(image)),
    "mirrored": lambda image: _written(ImageOps.mirror(image)),
}


@dataclass(frozen=True)
class Seen:
    """What pictures look like: `joint` (N, D), `bits` of fingerprints (N, 128), which are blank, ms a fingerprint."""

    joint: Floats
    bits: Bits
    blank: npt.NDArray[np.bool_]
    milliseconds: float


def look(encoder: ImageEncoder, contents: Iterable[bytes], batch: int = 16) -> Seen:
    """Decode, fingerprint and encode picture files."""
    joint, prints, seconds = [], [], 0.0
    near = enough_pixels(encoder.inputs)
    with ThreadPoolExecutor(2) as pool:

        def encoded(files: list[bytes]) -> tuple[Floats, list[str], float]:
            pictures = [decode(data, near) for data in files]
            start = time.perf_counter()
            marks = [fingerprint(picture) for picture in pictures]
            took = time.perf_counter() - start
            return encoder.encode([prepare(p, encoder.inputs) for p in pictures]).joint, marks, took

        for vectors, marks, took in pool.map(encoded, batched(contents, batch)):
            joint.append(vectors)
            prints += marks
            seconds += took
    blank = np.array([mark.startswith("#") for mark in prints])
    digits = ["0" * 32 if mark.startswith("#") else mark for mark in prints]
    bits = np.array([np.unpackbits(np.frombuffer(bytes.fromhex(mark), np.uint8)) for mark in digits], np.uint8)
    return Seen(np.concatenate(joint), bits, blank, seconds * 1e3 / len(prints))


@dataclass(frozen=True)
class Pairs:
    """Pairs of pictures: `differing` bits, `weights`, `cosine`; arrays of one shape."""

    differing: Floats
    weights: Floats
    cosine: Floats

    def taken(self, rule: Rule) -> npt.NDArray[np.bool_]:
        """Which are taken for copies."""
        return rule(self.differing, self.weights, self.cosine)


Rule = Callable[[Floats, Floats, Floats], npt.NDArray[np.bool_]]


def with_copies(encoder: ImageEncoder, files: list[Path], seen: Seen) -> dict[str, Pairs]:
    """Each of the first photographs with its copy, by kind."""
    pairs = {}
    for kind, change in KINDS.items():

        def changed(change: Callable[[Image.Image], bytes] = change) -> Iterator[bytes]:
            for file in files:
                yield change(whole(file))

        made, count = look(encoder, changed()), len(files)
        cosine = np.einsum("nd,nd->n", made.joint, seen.joint[:count])
        differing = (made.bits != seen.bits[:count]).sum(1).astype(np.float32)
        weights = weight(made.bits.sum(1, dtype=np.float32), seen.bits[:count].sum(1, dtype=np.float32), differing)
        pairs[kind] = Pairs(differing, weights, cosine)
    return pairs


def whole(file: Path) -> Image.Image:
    """A picture on white."""
    with Image.open(file) as image:
        rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return white.convert("RGB")


def between(seen: Seen) -> Pairs:
    """All pairs of the photographs, (N, N)."""
    bits = seen.bits.astype(np.float32)
    ones = bits.sum(1)
    differing = ones[:, None] + ones[None, :] - 2 * bits @ bits.T
    return Pairs(differing, weight(ones[:, None], ones[None, :], differing), seen.joint @ seen.joint.T)


def rules() -> dict[str, Rule]:
    """The rule in use, its two halves, and looser and stricter ones."""

    def copy(share: float, cosine: float) -> Rule:
        return lambda differing, weights, cosines: (differing <= share * weights) & (cosines >= cosine)

    def crop(share: float, cosine: float) -> Rule:
        return lambda d, weights, cosines: (d <= share * weights) & (weights >= CROP_LEAST) & (cosines >= cosine)

    copies = {f"copy: share {s}, cosine {c}": copy(s, c) for s in (0.12, COPY_SHARE, 0.24) for c in (0.0, COPY_COSINE)}
    crops = {f"crop: share {s}, cosine {c}": crop(s, c) for s in (0.24, CROP_SHARE, 0.34) for c in (0.85, CROP_COSINE)}
    return {"in use": near_duplicates, **copies, **crops}


def main() -> None:
    """Print the tables of docs/explanation/duplicates.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--originals", type=int, default=2000)
    parser.add_argument("--copied", type=int, default=300, help="originals that are copied in each way")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    files = [file.path for file in list_images(asked.images).files]
    random.Random(asked.seed).shuffle(files)  # noqa: S311 - a sample, no secret
    files = files[: asked.originals]
    encoder = ImageEncoder(Bundle.load(asked.bundle), "cpu", threads=1)
    seen = look(encoder, (file.read_bytes() for file in files))
    kept = np.flatnonzero(~seen.blank)
    files = [files[i] for i in kept]
    seen = Seen(seen.joint[kept], seen.bits[kept], seen.blank[kept], seen.milliseconds)
    copies, originals = with_copies(encoder, files[: asked.copied], seen), between(seen)
    upper = np.triu(np.ones((len(files), len(files)), bool), 1)
    print(f"{len(files):,} originals, {len(files[: asked.copied]):,} copied, {upper.sum():,} pairs of originals")
    print(f"{seen.milliseconds:.2f} ms a fingerprint")
    print("copies: differing bits / weight at the 50th, 90th and 99th percentile, cosine at the 1st and 10th")
    for kind, pairs in copies.items():
        shares = np.percentile(pairs.differing / np.maximum(pairs.weights, 1), [50, 90, 99])
        cosines = np.percentile(pairs.cosine, [1, 10])
        print(
            f"  {kind:20}" + "".join(f"{share:7.3f}" for share in shares) + "  " + "".join(f"{c:7.3f}" for c in cosines)
        )
    print("false pairs of originals, and recall by kind: " + ", ".join(KINDS))
    for name, rule in rules().items():
        recalls = "".join(f"{pairs.taken(rule).mean():8.1%}" for pairs in copies.values())
        print(f"  {name:30} {(originals.taken(rule) & upper).sum():6} {recalls}")
    print("the false pairs of the rule in use")
    for i, j in zip(*np.nonzero(originals.taken(near_duplicates) & upper), strict=True):
        one, other = (str(files[n].relative_to(asked.images)) for n in (i, j))
        print(f"  {one} {other}: {originals.differing[i, j]:.0f} of {originals.weights[i, j]:.0f} bits, ", end="")
        print(f"cosine {originals.cosine[i, j]:.3f}")


if __name__ == "__main__":
    main()
