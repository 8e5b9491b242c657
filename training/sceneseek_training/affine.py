"""Pairs of affine maps from tower outputs into the joint space: concatenated, reduced and stored.

An ensemble of pairs that were trained independently is better than any of them alone, but concatenated pairs have many
times the dimensions. Texts have few dimensions, and so has any linear function of them: the part of the image side
outside the span of the text side affects comparisons between texts and images through lengths only. So the pairs are
projected onto the principal directions of the text side, which leaves one small pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sceneseek.vectors import Floats
from sceneseek_export.alignment_maps import LearnedBlock, normalise, rounded


@dataclass(frozen=True)
class AffinePair:
    """An image map and a text map into the same d dimensions; their outputs are not normalized.

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
        """The pair with its outputs multiplied by these factors."""
        return AffinePair(
            self.image_weight * np.float32(image),
            self.image_bias * np.float32(image),
            self.text_weight * np.float32(text),
            self.text_bias * np.float32(text),
        )

    def projected(self, onto: Floats) -> AffinePair:
        """The pair with its outputs projected onto directions (d, k)."""
        return AffinePair(
            onto.T @ self.image_weight, onto.T @ self.image_bias, onto.T @ self.text_weight, onto.T @ self.text_bias
        )

    def stored(self, towers: tuple[str, ...], share: float, image: Floats, text: Floats) -> LearnedBlock:
        """The rounded pair, as a block of an alignment.

        Args:
            towers: the image towers whose features it reads.
            share: share of the joint similarity.
            image: (X,) typical input of the image map, for which rounding the weights must not change the output.
            text: (T,) likewise for the text map.
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
    """Whitening of text vectors before maps are trained, so that their directions differ enough.

    The vectors of some text towers all point in nearly the same direction. Whitening raises their variances about the
    mean to the power of 1 - 2 `power` and scales their mean length to 1. A power of 0 leaves vectors unchanged; 0.5
    gives all directions the same variance.

    Attributes:
        centre: (T,) subtracted from texts.
        of_texts, of_names: (T, T) matrices for centred texts, and for class-name vectors, which are centred already.
    """

    centre: Floats
    of_texts: Floats
    of_names: Floats

    @classmethod
    def of(cls, texts: Floats, names: Floats, power: float) -> Whitening:
        """The whitening of texts (M, T) of length 1 and of the images' class-name vectors (N, T), or (N, 0)."""
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
        """Whiten texts (..., T)."""
        about: Floats = vectors - self.centre
        return about @ self.of_texts.T

    def names(self, vectors: Floats) -> Floats:
        """Whiten class-name vectors (..., T) or (..., 0)."""
        return vectors @ self.of_names.T

    def before(self, pair: AffinePair) -> AffinePair:
        """The pair over tower outputs that is equivalent to a pair over whitened vectors."""
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
    """The untrained pair: the class-name vector, and the text vector minus a centre (T,) (ConSE)."""
    texts = len(centre)
    identity, nothing = np.eye(texts, dtype=np.float32), np.zeros(texts, np.float32)
    blind = np.zeros((texts, features), np.float32)
    return AffinePair(np.concatenate([blind, identity], axis=1), nothing, identity, -centre)


def side_by_side(pairs: Sequence[AffinePair], shares: Sequence[float], images: Floats, texts: Floats) -> AffinePair:
    """Concatenate pairs, each with its share of the similarity.

    Args:
        pairs: pairs of d_1, d_2, ... dimensions.
        shares: shares of the similarity, for an image and a text whose outputs have average length.
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
    """Project a pair onto the principal directions (uncentred) of its outputs for texts (M, T).

    There are `dimensions` of them, but at most T + 1, the rank of an affine map of T numbers.
    """
    span = np.linalg.qr(np.concatenate([pair.text_weight, pair.text_bias[:, None]], axis=1))[0]
    pair = pair.projected(span)
    outputs = normalise(pair.text(texts)).astype(np.float64)
    directions = np.linalg.eigh(outputs.T @ outputs)[1][:, ::-1]
    return pair.projected(directions[:, :dimensions].astype(np.float32))


def _length(outputs: Floats) -> float:
    return float(np.linalg.norm(outputs, axis=1).mean())
