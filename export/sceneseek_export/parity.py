"""Parity of the finished graphs with the source models, checked before a bundle becomes visible.

The source side is made of the parts: each tower's own reference (a checkpoint in torch, with transformers' tokenizer;
a graph that is written here, alone and unoptimised), the alignment and the head in numpy. The bundle's side is what
will serve: `tokenizers` and ONNX Runtime on the composed graphs, in batches and one by one. The parity
error of an output is the largest absolute difference of any of its numbers.

A tree asks whether a number is over a border. Where it lies on one, the last digit decides between two leaves, which
happens to some of a million numbers. So the shares of trees, which are their inputs, have an error of their own
(relative to the largest of them), and their scores are compared on the inputs that the graphs give.

A text tower that rounds its activations to 8 bits has such borders in each product, and what it gives differs more than
by the last digit if another processor, or a graph that is not optimised, adds in another order. So its reference is
optimised, and what depends on it is held to `ROUNDED_LIMIT`, lest an export fails by chance.
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
# Joint vectors of `compact` differ by 0.014 from those of a graph that is not optimised, and by 0.1 from those with
# another layer in the place of one.
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
    """The largest absolute difference between a bundle and what it was made of, by graph output.

    The first 32 images of the folder that decode are compared on, beside drawn ones.

    Raises:
        ExportError: some difference is over `LIMIT`, or `ROUNDED_LIMIT`.
    """
    inputs = bundle.manifest.image_inputs
    images = [prepare(picture, inputs) for picture in [*drawn_pictures(), *_real_pictures(bundle, folder)]]
    texts = [with_article(text) for text in TEXTS]  # the encoder would, the towers that it is compared with do not
    image_joint, image_features = _image_reference(images, towers, trained)
    text_joint, text_unit, text_spread = _text_reference(texts, towers, trained)

    image_encoder, text_encoder = ImageEncoder(bundle, "cpu"), TextEncoder(bundle, "cpu")
    together = image_encoder.encode(images)
    alone = image_encoder.encode(images[:1])
    texts_together = text_encoder.encode(texts)
    texts_alone = [text_encoder.encode([text]) for text in texts]
    errors = {
        "image.joint": max(_gap(together.joint, image_joint), _gap(alone.joint, image_joint[:1])),
        "text.joint": max(
            _gap(texts_together.joint, text_joint),
            _gap(np.concatenate([v.joint for v in texts_alone]), text_joint),
        ),
    }
    trees = trained.head if isinstance(trained.head, TreesHead) else None
    if trees is not None:
        text_shares = [{"text": text_unit, "spread": text_spread}[name] for name in OF_TEXT if name in trees.widths]
        errors["image.head"] = _relative_gap(together.head, [image_features] if "image" in trees.widths else [])
        errors["text.head"] = _relative_gap(texts_together.head, text_shares)
    reranker = Reranker(bundle)
    gaps = []
    for i in range(len(texts)):
        similarity = image_joint @ text_joint[i]
        candidates = Candidates([str(n) for n in range(len(images))], similarity, together.joint, together.head)
        scores = reranker.score(candidates, texts_together.joint[i], texts_together.head[i])
        inputs_of = pair_inputs(image_joint, image_features, text_joint[i], text_unit[i], text_spread[i])
        if trees is not None:
            inputs_of |= _given(trees, together, texts_together.joint[i], texts_together.head[i])
        gaps.append(_gap(scores, trained.head.score(inputs_of)))
    errors["score"] = max(gaps)
    rounded = any(tower.rounds for tower in towers.texts)
    for name, gap in errors.items():
        limit = ROUNDED_LIMIT if rounded and not name.startswith("image") else LIMIT
        if not gap <= limit:
            raise ExportError(
                f"{name} differs from its source model by {gap:.2e}, over the limit of {limit:.0e}",
                "the exporter and the runtime disagree: check the pinned versions in constraints.txt",
            )
    return errors


def drawn_pictures() -> Iterator[Picture]:
    """Varied pictures drawn by code: colours, shapes, noise, gradients, grey, odd sizes, transparency."""
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
    near, found = enough_pixels(bundle.manifest.image_inputs), 0
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in extensions()):
        try:
            yield decode(path.read_bytes(), near)
        except (ImageError, OSError):
            continue
        found += 1
        if found == _REAL_PICTURES:
            return
    if not found:
        raise ExportError(f"no image could be read in {folder}", "name another folder to verify on")


def _image_reference(images: list[tuple[Pixels, ...]], towers: Towers, trained: Trained) -> tuple[Floats, Floats]:
    features, logits = {}, {}
    for i, tower in enumerate(towers.images):
        pixels = tower.normalised([image[i] for image in images])
        features[tower.spec.name], logits[tower.spec.name] = tower.reference(pixels)
    joint = trained.alignment.image_joint(features, logits)
    inside = trained.alignment.clipped(features)
    beside = [inside[name] for name in trained.head.towers if name in inside]
    return joint, np.concatenate(beside, axis=1) if beside else np.zeros((len(images), 0), np.float32)


def _text_reference(texts: list[str], towers: Towers, trained: Trained) -> tuple[Floats, Floats, Floats]:
    by_tower: dict[str, Floats] = {
        tower.spec.name: np.concatenate([tower.reference(*tower.prepared(text)) for text in texts])
        for tower in towers.texts
    }
    read = [by_tower[name] for name in trained.head.towers if name in by_tower] or list(by_tower.values())
    unit: Floats = np.concatenate([normalise(out) for out in read], axis=1)
    return trained.alignment.text_joint(by_tower), unit, trained.alignment.text_spread(by_tower)


def _given(trees: TreesHead, images: Vectors, text_joint: Floats, text_head: Floats) -> dict[str, Floats]:
    """What the graphs give to trees, but the similarity, which is the engine's."""
    width = trees.widths.get("text", 0)
    given = pair_inputs(images.joint, images.head, text_joint, text_head[:width], text_head[width:])
    return {name: array for name, array in given.items() if name != "similarity"}


def _relative_gap(ours: Floats, reference: Sequence[Floats]) -> float:
    """Beside the largest number, where that is over 1; the reference is columns side by side."""
    expected = np.concatenate([np.zeros((len(ours), 0), np.float32), *reference], axis=1)
    return _gap(ours, expected) / max(1.0, float(np.abs(expected).max(initial=0.0)))


def _gap(ours: Floats, reference: Floats) -> float:
    gap = float(np.abs(ours - reference).max(initial=0.0))
    return gap if np.isfinite(ours).all() else float("inf")
