"""The alignment: its vectors and their products, its fingerprint, and its round trip through files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sceneseek.errors import DataError
from sceneseek.vectors import Floats
from sceneseek_export.alignment import CARD, WEIGHTS, Alignment, image_key
from sceneseek_export.alignment_maps import ClassNames, FeatureRange, Hubness, Typical, normalise
from sceneseek_export.curves import Calibration
from tests.weights import CALIBRATION, CLASSES, TEXT, TOWERS, drawn_alignment, numbers, with_space, with_two_texts

Seen = tuple[dict[str, Floats], dict[str, Floats]]
seeds = st.integers(0, 2**32)


def drawn_images(seed: int, count: int = 7) -> Seen:
    """Random features and logits of images; some features are outside their range."""
    rng = np.random.default_rng(seed)
    features = {tower: numbers(rng, count, width, scale=1.5) for tower, width in TOWERS.items()}
    return features, {tower: numbers(rng, count, CLASSES) for tower in TOWERS}


def drawn_texts(seed: int, count: int = 6) -> Floats:
    return numbers(np.random.default_rng((seed, 1)), count, TEXT, scale=3)


def cosines_of_blocks(alignment: Alignment, seen: Seen, texts: Floats) -> list[Floats]:
    """The cosines (N, M) of each block, computed from its weights."""
    features, logits = alignment.clipped(seen[0]), seen[1]
    (space,) = alignment.spaces
    names, cosines = alignment.names["words"].combine(logits), []
    for block in space.blocks:
        inputs = np.concatenate([*(features[tower] for tower in block.towers), names], axis=1)
        images = normalise(inputs @ block.image_weight.T + block.image_bias)
        cosines.append(images @ normalise(normalise(texts) @ block.text_weight.T + block.text_bias).T)
    return cosines


@given(seed=seeds)
def test_joint_vectors_are_unit_length_with_and_without_hubness(seed: int) -> None:
    full = drawn_alignment(seed)
    for alignment in (full, with_space(full, hubness=None)):
        images, texts = alignment.image_joint(*drawn_images(seed)), alignment.text_joint({"words": drawn_texts(seed)})
        for vectors, count in ((images, 7), (texts, 6)):
            assert vectors.shape == (count, alignment.joint)
            assert vectors.dtype == np.float32
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert full.joint == 8 + 5 + 2


@given(seed=seeds)
def test_hubness_subtracts_mean_similarity_to_nearest_texts(seed: int) -> None:
    alignment, seen, texts = drawn_alignment(seed), drawn_images(seed), drawn_texts(seed)
    (space,) = alignment.spaces
    assert space.hubness is not None
    plain = with_space(alignment, hubness=None)
    z = plain.image_joint(*seen)
    r = np.sort(z @ space.hubness.bank.T, axis=1)[:, -3:].mean(axis=1, keepdims=True)
    expected = (z @ plain.text_joint({"words": texts}).T - 0.2 * r) / 1.2
    np.testing.assert_allclose(
        alignment.image_joint(*seen) @ alignment.text_joint({"words": texts}).T, expected, atol=1e-5
    )


@given(seed=seeds)
def test_cosine_without_hubness_is_weighted_sum_of_block_cosines(seed: int) -> None:
    alignment, seen, texts = with_space(drawn_alignment(seed), hubness=None), drawn_images(seed), drawn_texts(seed)
    first, second = cosines_of_blocks(alignment, seen, texts)
    together = alignment.image_joint(*seen) @ alignment.text_joint({"words": texts}).T
    np.testing.assert_allclose(together, 0.75 * first + 0.25 * second, atol=1e-5)


@given(seed=seeds, hubness=st.booleans())
def test_product_parts_are_block_cosines_and_hubness(seed: int, hubness: bool) -> None:
    full, seen, texts = drawn_alignment(seed), drawn_images(seed), drawn_texts(seed)
    alignment = full if hubness else with_space(full, hubness=None)
    products = alignment.image_joint(*seen)[:, None] * alignment.text_joint({"words": texts})
    parts = products @ alignment.parts
    assert parts.shape == (7, 6, 3 if hubness else 2)
    for i, cosines in enumerate(cosines_of_blocks(alignment, seen, texts)):
        np.testing.assert_allclose(parts[..., i], cosines, atol=2e-5)
    bank = full.spaces[0].hubness
    if bank is not None and hubness:
        r = bank.of(with_space(full, hubness=None).image_joint(*seen))
        np.testing.assert_allclose(parts[..., 2], np.broadcast_to(r[:, None], (7, 6)), atol=2e-5)


@pytest.mark.parametrize(("neighbours", "weight"), [(0, 0.2), (21, 0.2), (3, 0.0), (3, -1.0)])
def test_invalid_hubness_weight_or_neighbours_is_rejected(neighbours: int, weight: float) -> None:
    with pytest.raises(ValueError, match="hubness needs"):
        Hubness(np.zeros((20, 13), np.float32), neighbours, weight)


def test_features_are_clipped_to_their_range_if_they_have_one() -> None:
    alignment = drawn_alignment()
    low, high = alignment.ranges["a"].low, alignment.ranges["a"].high
    inside = (low + high) / 2
    features = {"a": np.stack([low - 9, high + 9, inside]), "b": numbers(np.random.default_rng(0), 3, 4, scale=100)}
    clipped = alignment.clipped(features)
    np.testing.assert_array_equal(clipped["a"], np.stack([low, high, inside]))
    np.testing.assert_array_equal(clipped["b"], features["b"])
    logits = drawn_images(0, 3)[1]
    at_the_edge = alignment.image_joint({**features, "a": np.stack([low, high, inside])}, logits)
    np.testing.assert_array_equal(alignment.image_joint(features, logits), at_the_edge)
    open_ended = replace(alignment, ranges={"a": FeatureRange(np.full(5, -np.inf, "f4"), np.full(5, np.inf, "f4"))})
    np.testing.assert_array_equal(open_ended.clipped(features)["a"], features["a"])


@given(seed=seeds, top=st.integers(1, CLASSES))
def test_class_names_are_combined_from_most_probable_classes(seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    names = ClassNames(("a",), normalise(numbers(rng, CLASSES, TEXT)), temperature=1.5, top=top)
    logits = 3 * numbers(rng, 1, CLASSES)
    p = np.exp(logits[0].astype(np.float64) / 1.5)
    best = np.argsort(-p)[:top]
    expected = sum(p[i] * names.embeddings[i] for i in best)
    np.testing.assert_allclose(names.combine({"a": logits})[0], expected / np.linalg.norm(expected), atol=1e-5)


@given(seed=seeds)
def test_classifiers_have_equal_weight(seed: int) -> None:
    _, logits = drawn_images(seed)
    logits["b"] = 5 * logits["b"]  # a confident classifier has the same weight
    both = drawn_alignment().names["words"]
    each = [replace(both, towers=(tower,)).combine(logits) for tower in TOWERS]
    np.testing.assert_allclose(both.combine(logits), normalise(each[0] + each[1]), atol=1e-6)
    np.testing.assert_array_equal(replace(both, towers=("b", "a")).combine(logits), both.combine(logits))


def test_text_spread_is_mean_and_deviation_over_training_images() -> None:
    rng, alignment, texts = np.random.default_rng(0), drawn_alignment(), drawn_texts(0)
    samples = [normalise(numbers(rng, 400, d) + numbers(rng, d)) for d in (8, 5)]
    roots = tuple(np.linalg.cholesky(np.cov(u.T, bias=True)).T.astype(np.float32) for u in samples)
    typical = Typical(tuple(u.mean(axis=0) for u in samples), roots)
    spread = with_space(alignment, typical=typical).text_spread({"words": texts})
    assert spread.shape == (6, alignment.spread) == (6, 4)
    for i, (images, block) in enumerate(zip(samples, alignment.spaces[0].blocks, strict=True)):
        cosines = images @ normalise(normalise(texts) @ block.text_weight.T + block.text_bias).T
        np.testing.assert_allclose(spread[:, 2 * i], cosines.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(spread[:, 2 * i + 1], cosines.std(axis=0), atol=1e-5)


def test_text_spread_is_empty_without_training_images() -> None:
    bare = with_space(drawn_alignment(), typical=None)
    assert bare.spread == 0
    assert bare.text_spread({"words": drawn_texts(0)}).shape == (6, 0)


def _other(array: Floats) -> Floats:
    """Change one number by more than rounding."""
    changed = array.copy()
    changed.flat[-1] += np.float32(0.25)
    return changed


def _with(part: str, **changes: Any) -> Callable[[Alignment], Alignment]:
    return lambda alignment: with_space(alignment, **{part: replace(getattr(alignment.spaces[0], part), **changes)})


def _other_in(part: str, name: str) -> Callable[[Alignment], Alignment]:
    return lambda a: _with(part, **{name: _other(getattr(getattr(a.spaces[0], part), name))})(a)


def _of_block(**changes: Any) -> Callable[[Alignment], Alignment]:
    def change(alignment: Alignment) -> Alignment:
        first, second = alignment.spaces[0].blocks
        return with_space(alignment, blocks=(first, replace(second, **changes)))

    return change


def _other_in_block(name: str) -> Callable[[Alignment], Alignment]:
    return lambda a: _of_block(**{name: _other(getattr(a.spaces[0].blocks[1], name))})(a)


def _of_typical(name: str) -> Callable[[Alignment], Alignment]:
    def change(alignment: Alignment) -> Alignment:
        first, second = getattr(alignment.spaces[0].typical, name)
        return _with("typical", **{name: (first, _other(second))})(alignment)

    return change


def _with_names(**changes: Any) -> Callable[[Alignment], Alignment]:
    return lambda alignment: replace(alignment, names={"words": replace(alignment.names["words"], **changes)})


def _halved(alignment: Alignment) -> Alignment:
    return with_space(alignment, blocks=tuple(replace(block, share=0.5) for block in alignment.spaces[0].blocks))


CHANGES: dict[str, Callable[[Alignment], Alignment]] = {
    "pack": lambda a: replace(a, pack="other"),
    "text tower": lambda a: with_space(a, text="sentences"),
    **{name: _other_in_block(name) for name in ("image_weight", "image_bias", "text_weight", "text_bias")},
    "share": _halved,
    "towers of a block": _of_block(towers=("a",)),
    "embeddings": lambda a: _with_names(embeddings=_other(a.names["words"].embeddings))(a),
    "classifiers": _with_names(towers=("a",)),
    "temperature": _with_names(temperature=1.25),
    "top": _with_names(top=4),
    "two text towers": with_two_texts,
    "no names": lambda a: replace(a, names={}),
    "low": lambda a: replace(a, ranges={"a": replace(a.ranges["a"], low=_other(a.ranges["a"].low))}),
    "high": lambda a: replace(a, ranges={"a": replace(a.ranges["a"], high=_other(a.ranges["a"].high))}),
    "tower of a range": lambda a: replace(a, ranges={"b": a.ranges["a"]}),
    "bank": _other_in("hubness", "bank"),
    "neighbours": _with("hubness", neighbours=4),
    "weight of hubness": _with("hubness", weight=0.25),
    "no hubness": lambda a: with_space(a, hubness=None),
    "means": _of_typical("means"),
    "roots": _of_typical("roots"),
    "no typical": lambda a: with_space(a, typical=None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_changes_with_every_part_that_affects_vectors(change: str) -> None:
    assert CHANGES[change](drawn_alignment()).fingerprint != drawn_alignment().fingerprint


def test_fingerprint_ignores_card_calibration_and_training_images(tmp_path: Path) -> None:
    before = drawn_alignment()
    other = replace(
        before,
        card={"seed": 9},
        calibration=Calibration(1.0, 0.0, "elsewhere"),
        learned_images=np.array([1], np.uint64),
    )
    assert other.fingerprint == before.fingerprint
    before.save(tmp_path)
    assert Alignment.load(tmp_path).fingerprint == before.fingerprint


@pytest.mark.parametrize("part", ["first", "weight", "bias", "slope", "middle", "known", "unknown"])
def test_fingerprint_changes_with_mixing(part: str) -> None:
    before = with_two_texts(drawn_alignment())
    assert before.mixing is not None
    value = getattr(before.mixing, part)
    other = value[::-1] if isinstance(value, str | tuple) else value + 0.25
    changes: dict[str, Any] = {part: other}
    assert replace(before, mixing=replace(before.mixing, **changes)).fingerprint != before.fingerprint


@given(seed=seeds)
def test_joint_product_is_weighted_sum_over_spaces(seed: int) -> None:
    full = with_two_texts(drawn_alignment(seed))
    assert full.mixing is not None
    seen, texts = drawn_images(seed), {"words": drawn_texts(seed), "sentences": drawn_texts(seed + 1)}
    understood = full.mixing.understood({tower: normalise(vectors) for tower, vectors in texts.items()})
    weights = full.mixing.weights(understood)
    lengths = np.linalg.norm(weights, axis=1) * np.sqrt(np.float32(len(full.spaces)))
    images, text_vectors = full.image_joint(*seen), full.text_joint(texts)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(text_vectors, axis=1), 1, atol=1e-5)
    products = images[:, None] * text_vectors
    expected, parts, spreads = np.zeros((7, 6), np.float32), [], []
    for i, space in enumerate(full.spaces):
        alone = replace(full, spaces=(space,), mixing=None)
        product = alone.image_joint(*seen)[:, None] * alone.text_joint(texts)
        expected += weights[:, i] / lengths * product.sum(axis=2)
        scale = weights[:, i] / lengths * np.sqrt(np.float32(len(full.spaces)))
        parts.append(scale[:, None] * (product @ alone.parts))
        spreads.append(alone.text_spread(texts))
    np.testing.assert_allclose(products.sum(axis=2), expected, atol=1e-5)
    np.testing.assert_allclose(products @ full.parts, np.concatenate(parts, axis=2), atol=1e-4)
    np.testing.assert_array_equal(full.text_spread(texts), np.concatenate([*spreads, understood], axis=1))
    assert full.text_spread(texts).shape == (6, full.spread)
    as_unknown = full.text_joint(texts, unknown=True)
    assert np.abs(as_unknown[:, : full.spaces[0].joint]).max() == 0  # the first space has no weight
    assert (full.text_spread(texts, unknown=True)[:, -1] == 0).all()


def test_alignment_with_two_text_towers_round_trips(tmp_path: Path) -> None:
    before = with_two_texts(drawn_alignment())
    before.save(tmp_path)
    after = Alignment.load(tmp_path)
    seen, texts = drawn_images(1), {"words": drawn_texts(1), "sentences": drawn_texts(2)}
    assert after.fingerprint == before.fingerprint
    np.testing.assert_array_equal(after.image_joint(*seen), before.image_joint(*seen))
    np.testing.assert_array_equal(after.text_joint(texts), before.text_joint(texts))


@given(seed=seeds)
def test_mixing_weights_depend_on_agreement_of_text_towers(seed: int) -> None:
    mixing = with_two_texts(drawn_alignment(), seed=seed % 100).mixing
    assert mixing is not None
    second = normalise(drawn_texts(seed))
    meant = normalise(second @ mixing.weight.T + mixing.bias)
    alike, apart = (
        mixing.weights(mixing.understood({"words": first, "sentences": second})) for first in (meant, -meant)
    )
    for weights in (alike, apart):
        assert (weights >= np.minimum(mixing.known, mixing.unknown) - 1e-6).all()
        assert (weights <= np.maximum(mixing.known, mixing.unknown) + 1e-6).all()
    assert (alike[:, 0] > apart[:, 0]).all()
    assert (alike[:, 2] < apart[:, 2]).all()


@pytest.mark.parametrize("without", [(), ("names", "hubness", "typical", "ranges")], ids=["all parts", "blocks only"])
def test_alignment_round_trips_exactly(without: tuple[str, ...], tmp_path: Path) -> None:
    before = drawn_alignment()
    if without:
        blocks = tuple(replace(b, image_weight=b.image_weight[:, :-TEXT]) for b in before.spaces[0].blocks)
        before = with_space(replace(before, ranges={}, names={}), blocks=blocks, hubness=None, typical=None)
    before.save(tmp_path)
    after = Alignment.load(tmp_path)
    seen, texts = drawn_images(1), drawn_texts(1)
    np.testing.assert_array_equal(after.image_joint(*seen), before.image_joint(*seen))
    np.testing.assert_array_equal(after.text_joint({"words": texts}), before.text_joint({"words": texts}))
    np.testing.assert_array_equal(after.text_spread({"words": texts}), before.text_spread({"words": texts}))
    np.testing.assert_array_equal(after.parts, before.parts)
    assert after.fingerprint == before.fingerprint
    assert (after.pack, after.calibration, after.card) == ("compact", CALIBRATION, {"seed": 0})
    assert after.learned_images.dtype == np.uint64
    np.testing.assert_array_equal(after.learned_images, before.learned_images)


def test_training_images_are_identified_by_content() -> None:
    content = b"a picture"
    assert image_key(content) == int(hashlib.sha256(content).hexdigest()[:16], 16)
    learned = drawn_alignment().learned_images
    assert np.isin([image_key(b"one"), image_key(b"two"), image_key(b"three")], learned).tolist() == [True, True, False]


def test_saving_is_deterministic(tmp_path: Path) -> None:
    for name in ("one", "two"):
        drawn_alignment().save(tmp_path / name)
    Alignment.load(tmp_path / "one").save(tmp_path / "three")
    for file in (WEIGHTS, CARD):
        assert len({(tmp_path / name / file).read_bytes() for name in ("one", "two", "three")}) == 1


@pytest.mark.parametrize("lost", [WEIGHTS, CARD])
def test_missing_alignment_error_suggests_train_command(lost: str, tmp_path: Path) -> None:
    drawn_alignment().save(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(DataError, match=rf"no alignment in .*{lost} is missing.*sceneseek train alignment"):
        Alignment.load(tmp_path)


@pytest.mark.parametrize("file", [WEIGHTS, CARD])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9])
def test_damaged_alignment_raises_data_error(file: str, share: float, tmp_path: Path) -> None:
    drawn_alignment().save(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"the alignment in .* cannot be read .*sceneseek train alignment"):
        Alignment.load(tmp_path)


@pytest.mark.parametrize("schema", [2, 4])
def test_alignment_with_other_schema_version_is_rejected(schema: int, tmp_path: Path) -> None:
    drawn_alignment().save(tmp_path)
    raw = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**raw, "schema_version": schema}))
    with pytest.raises(DataError, match=f"has schema version {schema}: write it with"):
        Alignment.load(tmp_path)


def test_block_shares_not_summing_to_one_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"the blocks of a space sum to 0\.75, not to 1"):
        with_space(drawn_alignment(), blocks=drawn_alignment().spaces[0].blocks[:1])


def test_multiple_spaces_require_mixing() -> None:
    with pytest.raises(ValueError, match="one space, or as many as its mixing has weights"):
        replace(with_two_texts(drawn_alignment()), mixing=None)
