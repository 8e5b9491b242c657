"""A pair of affine maps over what the towers give: put side by side, cut to what matters, stored.

Several pairs that were learned apart agree better together than any of them alone. Side by side they would
cost as many times the numbers; but texts have few dimensions, and so has anything linear in them. What of
the image side lies outside the span of the text side changes no comparison between texts and images, except
through lengths. So the pairs are projected onto the principal directions of the text side, and one small
pair is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sceneseek.vectors import Floats
from sceneseek_export.alignment_maps import LearnedBlock, normalise, rounded


@dataclass(frozen=True)
class AffinePair:
    """An image map and a text map into the same d dimensions; their outputs have no particular length.

    Attributes:
        image_weight, image_bias: (d, X), (d,); the input is the features and the class-name vector.
        text_weight, text_bias: (d, T), (d,); the input is a text vector of length 1.
    """

    image_weight: Floats
    image_bias: Floats
    text_weight: Floats
    text_bias: Floats

    def image(self, inputs: Floats) -> Floats:
        """(N, X) to (N, d)."""
        return inputs @ self.image_weight.T + self.image_bias

    def text(self, inputs: Floats) -> Floats:
        """(M, T) to (M, d)."""
        return inputs @ self.text_weight.T + self.text_bias

    def scaled(self, image: float, text: float) -> AffinePair:
        """The outputs times these factors."""
        return AffinePair(
            self.image_weight * np.float32(image),
            self.image_bias * np.float32(image),
            self.text_weight * np.float32(text),
            self.text_bias * np.float32(text),
        )

    def projected(self, onto: Floats) -> AffinePair:
        """The outputs in terms of directions (d, k)."""
        return AffinePair(
            onto.T @ self.image_weight, onto.T @ self.image_bias, onto.T @ self.text_weight, onto.T @ self.text_bias
        )

    def stored(self, towers: tuple[str, ...], share: float, image: Floats, text: Floats) -> LearnedBlock:
        """As an alignment keeps it, rounded.

        Args:
            towers: whose features it reads.
            share: of the joint similarity.
            image: (X,) a typical input of the image map: there, rounding the weights shall change nothing.
            text: (T,) likewise.
        """
        image_weight, text_weight = rounded(self.image_weight), rounded(self.text_weight)
        image_bias = self.image_bias + (self.image_weight - image_weight) @ image
        text_bias = self.text_bias + (self.text_weight - text_weight) @ text
        return LearnedBlock(
            towers=towers,
            image_weight=image_weight,
            image_bias=rounded(image_bias.astype(np.float32)),
            text_weight=text_weight,
            text_bias=rounded(text_bias.astype(np.float32)),
            share=share,
        )


@dataclass(frozen=True)
class Whitening:
    """What text vectors become before maps over them are learned, so that their directions differ enough.

    Some text towers give vectors that all point nearly the same way. Their variances are brought to the power of
    1 - 2 `power`, about their mean, and their lengths to 1 on average. With a power of 0 vectors stay as they are; 0.5
    would make all directions alike.

    Attributes:
        centre: (T,) taken off texts.
        of_texts, of_names: (T, T) that multiply texts about the centre, and class-name vectors, which are about it.
    """

    centre: Floats
    of_texts: Floats
    of_names: Floats

    @classmethod
    def of(cls, texts: Floats, names: Floats, power: float) -> Whitening:
        """Learned from texts (M, T) of length 1 and the images' class-name vectors (N, T), or (N, 0)."""
        width = texts.shape[1]
        if power == 0:
            same = np.eye(width, dtype=np.float32)
            return cls(np.zeros(width, np.float32), same, same if names.shape[1] else same[:0, :0])
        centre = texts.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((texts - centre).T.astype(np.float64)))
        matrix = ((vectors * np.maximum(values, 1e-9) ** -power) @ vectors.T).astype(np.float32)
        of_names = matrix / _length(names @ matrix.T) if names.shape[1] else matrix[:0, :0]
        return cls(centre, matrix / _length((texts - centre) @ matrix.T), of_names)

    def texts(self, vectors: Floats) -> Floats:
        """Texts (..., T)."""
        about: Floats = vectors - self.centre
        return about @ self.of_texts.T

    def names(self, vectors: Floats) -> Floats:
        """Class-name vectors (..., T) or (..., 0)."""
        return vectors @ self.of_names.T

    def before(self, pair: AffinePair) -> AffinePair:
        """A pair that was learned over whitened vectors, as one over what the towers give."""
        features = pair.image_weight.shape[1] - len(self.of_names)
        of_features, of_names = pair.image_weight[:, :features], pair.image_weight[:, features:]
        text_weight: Floats = pair.text_weight @ self.of_texts
        return AffinePair(
            image_weight=np.concatenate([of_features, of_names @ self.of_names], axis=1),
            image_bias=pair.image_bias,
            text_weight=text_weight,
            text_bias=(pair.text_bias - text_weight @ self.centre).astype(np.float32),
        )


def plain_names(features: int, centre: Floats) -> AffinePair:
    """The pair that learned nothing: the class-name vector, and the text vector itself about a centre (T,) (ConSE)."""
    texts = len(centre)
    identity, nothing = np.eye(texts, dtype=np.float32), np.zeros(texts, np.float32)
    blind = np.zeros((texts, features), np.float32)
    return AffinePair(np.concatenate([blind, identity], axis=1), nothing, identity, -centre)


def side_by_side(pairs: Sequence[AffinePair], shares: Sequence[float], images: Floats, texts: Floats) -> AffinePair:
    """Pairs as one, each with its share of the similarity.

    Args:
        pairs: of d_1, d_2, ... dimensions.
        shares: of the similarity, for an image and a text whose outputs are as long as they are on average.
        images: (N, X) inputs to average over.
        texts: (M, T) likewise.
    """
    scaled = [
        pair.scaled(np.sqrt(share) / _length(pair.image(images)), np.sqrt(share) / _length(pair.text(texts)))
        for pair, share in zip(pairs, shares, strict=True)
    ]
    return AffinePair(
        np.concatenate([pair.image_weight for pair in scaled]),
        np.concatenate([pair.image_bias for pair in scaled]),
        np.concatenate([pair.text_weight for pair in scaled]),
        np.concatenate([pair.text_bias for pair in scaled]),
    )


def principal(pair: AffinePair, texts: Floats, dimensions: int) -> AffinePair:
    """The pair in its text side's principal directions, uncentred, over texts (M, T).

    There are `dimensions` of them, or T + 1 if that is less: an affine map of T numbers has no more.
    """
    span = np.linalg.qr(np.concatenate([pair.text_weight, pair.text_bias[:, None]], axis=1))[0]
    pair = pair.projected(span)
    outputs = normalise(pair.text(texts)).astype(np.float64)
    directions = np.linalg.eigh(outputs.T @ outputs)[1][:, ::-1]
    return pair.projected(directions[:, :dimensions].astype(np.float32))


def _length(outputs: Floats) -> float:
    return float(np.linalg.norm(outputs, axis=1).mean())
