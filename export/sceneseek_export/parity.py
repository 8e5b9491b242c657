"""Compares the finished graphs with the source models before a bundle is moved into place.

The reference runs the parts separately: each tower's own reference (a checkpoint in torch, with transformers'
tokenizer; or an exported graph alone and unoptimised), the alignment and the head in numpy. The bundle runs as in
production: `tokenizers` and ONNX Runtime on the composed graphs, in batches and one by one. The parity error of an
output is the largest absolute difference of any of its values.

Decision trees compare values with borders. Among a million values, some are so close to a border that the last digit
decides between two leaves. So the shares of trees, which are their inputs, have their own parity error (relative to the
largest value), and their scores are compared on the inputs that the graphs compute.

A text tower that rounds its activations to 8 bits has such borders in each product, and its output differs by more than
the last digit if another CPU or an unoptimised graph adds in another order. So its reference is optimised, and the
outputs that depend on it have the limit `ROUNDED_LIMIT`, so that no export fails by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sceneseek.bundle import Bundle
from sceneseek.encoders import ImageEncoder, TextEncoder, with_article
from sceneseek.errors import ExportError, ImageError
from sceneseek.picture import Picture, decode, extensions
from sceneseek.preprocess import Pixels, enough_pixels, prepare
from sceneseek.reranker import Reranker
from sceneseek.vectors import Candidates, Floats, Vectors
from sceneseek_export.alignment_maps import normalise
from sceneseek_export.heads import OF_TEXT, TreesHead, pair_inputs
from sceneseek_export.towers import Towers
from sceneseek_export.trained import Trained

LIMIT = 1e-4
# Joint vectors of `compact` differ by 0.014 from those of an unoptimised graph, and by 0.1 if one layer is replaced by
# another.
ROUNDED_LIMIT = 0.05
_REAL_PICTURES = 32

TEXTS = (
    "a dog",
    "Two dogs play in the snow.",
    "A man in a red jacket is climbing a rock wall while another man holds the rope below him",
    "кошка спит на подоконнике",
    "une tasse de café ☕ à côté d'un livre",
    "犬が雪の中を走る",
    "  UPPER case,   odd -- punctuation?!  ",
    "12:30 & 50% of #hashtags @home",
    "🐶🐱",
    "word " * 300,
    "x",
    "",
)


def measure_parity_error(
    bundle: Bundle, towers: Towers, trained: Trained, folder: Path | None = None
) -> dict[str, float]:
    """The largest absolute difference between a bundle and its source models, by graph output.

    Both are run on generated pictures and on the first 32 images of the folder that can be decoded.

    Raises:
        ExportError: a difference is over `LIMIT` or `ROUNDED_LIMIT`.
    """
    inputs = bundle.manifest.image_inputs
    images = [prepare(picture, inputs) for picture in [*drawn_pictures(), *_real_pictures(bundle, folder)]]
    texts = [with_article(text) for text in TEXTS]  # the encoder adds articles, the reference towers do not
    image_joint, image_features = _image_reference(images, towers, trained)
    text_joint, text_unit, text_spread = _text_reference(texts, towers, trained)

    image_encoder, text_encoder = ImageEncoder(bundle, "cpu"), TextEncoder(bundle, "cpu")
    batch = image_encoder.encode(images)
    alone = image_encoder.encode(images[:1])
    text_batch = text_encoder.encode(texts)
    texts_alone = [text_encoder.encode([text]) for text in texts]
    errors = {
        "image.joint": max(_difference(batch.joint, image_joint), _difference(alone.joint, image_joint[:1])),
        "text.joint": max(
            _difference(text_batch.joint, text_joint),
            _difference(np.concatenate([v.joint for v in texts_alone]), text_joint),
        ),
    }
    trees = trained.head if isinstance(trained.head, TreesHead) else None
    if trees is not None:
        text_shares = [{"text": text_unit, "spread": text_spread}[name] for name in OF_TEXT if name in trees.widths]
        errors["image.head"] = _relative_difference(batch.head, [image_features] if "image" in trees.widths else [])
        errors["text.head"] = _relative_difference(text_batch.head, text_shares)
    reranker = Reranker(bundle)
    differences = []
    for i in range(len(texts)):
        similarity = image_joint @ text_joint[i]
        candidates = Candidates([str(n) for n in range(len(images))], similarity, batch.joint, batch.head)
        scores = reranker.score(candidates, text_batch.joint[i], text_batch.head[i])
        head_inputs = pair_inputs(image_joint, image_features, text_joint[i], text_unit[i], text_spread[i])
        if trees is not None:
            head_inputs |= _tree_inputs(trees, batch, text_batch.joint[i], text_batch.head[i])
        differences.append(_difference(scores, trained.head.score(head_inputs)))
    errors["score"] = max(differences)
    rounded = any(tower.rounds for tower in towers.texts)
    for name, error in errors.items():
        limit = ROUNDED_LIMIT if rounded and not name.startswith("image") else LIMIT
        if not error <= limit:
            raise ExportError(
                f"{name} differs from its source model by {error:.2e}, over the limit of {limit:.0e}",
                "the exporter and the runtime disagree: check the pinned versions in constraints.txt",
            )
    return errors


def drawn_pictures() -> Iterator[Picture]:
    """Generate varied pictures: colours, shapes, noise, gradients, grey, odd sizes, transparency."""
    rng = np.random.default_rng(0)
    for i in range(12):
        width, height = ((224, 224), (640, 480), (301, 77), (50, 400), (1, 1), (1024, 768))[i % 6]
        mode = "RGBA" if i % 4 == 3 else "RGB"
        image = Image.new(mode, (width, height), tuple(map(int, rng.integers(0, 256, len(mode)))))
        draw = ImageDraw.Draw(image)
        for _ in range(i):
            x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
            colour = tuple(map(int, rng.integers(0, 256, len(mode))))
            shape = (x, y, x + int(rng.integers(0, width)), y + int(rng.integers(0, height)))
            (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(shape, fill=colour)
        yield Picture(image, width, height, "PNG")
    noise = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
    yield Picture(Image.fromarray(noise), 200, 300, "PNG")
    ramp = np.linspace(0, 255, 256, dtype=np.uint8)
    yield Picture(Image.fromarray(np.tile(ramp, (128, 1))).convert("RGB"), 256, 128, "PNG")


def _real_pictures(bundle: Bundle, folder: Path | None) -> Iterator[Picture]:
    if folder is None:
        return
    size, decoded = enough_pixels(bundle.manifest.image_inputs), 0
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in extensions()):
        try:
            yield decode(path.read_bytes(), size)
        except (ImageError, OSError):
            continue
        decoded += 1
        if decoded == _REAL_PICTURES:
            return
    if not decoded:
        raise ExportError(f"no image in {folder} can be read", "choose another folder for --verify-on")


def _image_reference(images: list[tuple[Pixels, ...]], towers: Towers, trained: Trained) -> tuple[Floats, Floats]:
    features, logits = {}, {}
    for i, tower in enumerate(towers.images):
        pixels = tower.normalised([image[i] for image in images])
        features[tower.spec.name], logits[tower.spec.name] = tower.reference(pixels)
    joint = trained.alignment.image_joint(features, logits)
    clipped = trained.alignment.clipped(features)
    read = [clipped[name] for name in trained.head.towers if name in clipped]
    return joint, np.concatenate(read, axis=1) if read else np.zeros((len(images), 0), np.float32)


def _text_reference(texts: list[str], towers: Towers, trained: Trained) -> tuple[Floats, Floats, Floats]:
    by_tower: dict[str, Floats] = {
        tower.spec.name: np.concatenate([tower.reference(*tower.prepared(text)) for text in texts])
        for tower in towers.texts
    }
    read = [by_tower[name] for name in trained.head.towers if name in by_tower] or list(by_tower.values())
    unit: Floats = np.concatenate([normalise(out) for out in read], axis=1)
    return trained.alignment.text_joint(by_tower), unit, trained.alignment.text_spread(by_tower)


def _tree_inputs(trees: TreesHead, images: Vectors, text_joint: Floats, text_head: Floats) -> dict[str, Floats]:
    """The inputs of trees as the graphs compute them, except the similarity, which the engine computes."""
    width = trees.widths.get("text", 0)
    inputs = pair_inputs(images.joint, images.head, text_joint, text_head[:width], text_head[width:])
    return {name: array for name, array in inputs.items() if name != "similarity"}


def _relative_difference(ours: Floats, reference: Sequence[Floats]) -> float:
    """The difference relative to the largest reference value if that is over 1; the reference is a list of columns."""
    expected = np.concatenate([np.zeros((len(ours), 0), np.float32), *reference], axis=1)
    return _difference(ours, expected) / max(1.0, float(np.abs(expected).max(initial=0.0)))


def _difference(ours: Floats, reference: Floats) -> float:
    """The largest absolute difference; infinite if a value of ours is not finite."""
    difference = float(np.abs(ours - reference).max(initial=0.0))
    return difference if np.isfinite(ours).all() else float("inf")
