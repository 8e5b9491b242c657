"""The tokenizers of exported checkpoints return the same ids as those of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers as untyped_transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sceneseek.encoders import Tokenizer
from sceneseek_export.packs import TextTowerSpec
from sceneseek_export.towers import TextTower, load_text_tower
from tests import checkpoints

transformers: Any = untyped_transformers

DIFFICULT_TEXTS = (
    "",
    " ",
    "a dog",
    "Two DOGS play in the Snow.",
    "  UPPER case,   odd -- punctuation?!  ",
    "собака бежит по снегу",
    "СОБАКА Ёжик, й и й: ещё",
    "犬が雪の中を走る 雪地里的狗 눈 속의 개",
    "🐶🐱 👩‍👩‍👧‍👦 🇫🇮 ☕️",
    "naïve café à côté d'un élève, Straße, İstanbul, ΟΔΟΣ",
    "word " * 600,
    "слово " * 600,
    "x" * 3_000,
    "tab\tnewline\nreturn\rnull\x00bell\x07escape\x1b zero\u200bwidth bidi\u202e \ufeff\u00ad nbsp\u00a0.",
    "[CLS] [SEP] [MASK] <|endoftext|> <|startoftext|> <eos> <pad> <unk>",
    "<|endoftext|>a dog",
    "a\u0301 \u00e1 \ufb01 \u2460 \u0130",
    "12:30 & 50% of #hashtags @home it's they'll",
    "\U0001f9ff\U000e0001\uffff\ud7ff",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {
        "bert": checkpoints.bert(root / "bert"),
        "clip-text": checkpoints.clip(root / "clip"),
        "siglip-text": checkpoints.siglip(root / "siglip"),
    }


def loaded(folder: Path, architecture: str, tmp_path: Path, **options: Any) -> tuple[TextTower, Tokenizer]:
    tower = load_text_tower(TextTowerSpec("ear", architecture, f"dir:{folder}", **options))
    path = tmp_path / tower.input.tokenizer
    path.write_bytes(tower.tokenizer)
    return tower, Tokenizer(path, tower.input)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {"max_tokens": 128}),
    "clip": ("clip-text", {}),
    "siglip": ("siglip-text", {}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("multilingual", [False, True])
def test_tower_is_multilingual_if_its_spec_says_so(
    checkpoint: dict[str, Path], tmp_path: Path, name: str, multilingual: bool
) -> None:
    architecture, options = CASES[name]
    tower, _ = loaded(checkpoint[architecture], architecture, tmp_path, **options, multilingual=multilingual)
    assert tower.input.multilingual == multilingual


@pytest.mark.parametrize("name", CASES)
def test_ids_equal_those_of_transformers(checkpoint: dict[str, Path], tmp_path: Path, name: str) -> None:
    architecture, options = CASES[name]
    tower, ours = loaded(checkpoint[architecture], architecture, tmp_path, **options)
    reference = transformers.AutoTokenizer.from_pretrained(checkpoint[architecture])
    most = tower.input.max_tokens
    for text in DIFFICULT_TEXTS:
        alone = ours([text])
        expected = reference(text, truncation=True, max_length=most)["input_ids"]
        assert alone.ids[0, : len(expected)].tolist() == expected, text
        assert (alone.ids[0, len(expected) :] == tower.input.pad_id).all()
        assert alone.mask[0].tolist() == [1] * len(expected) + [0] * (alone.ids.shape[1] - len(expected))
        assert alone.truncated[0] == (len(reference(text)["input_ids"]) > most)
    padded = reference(list(DIFFICULT_TEXTS), truncation=True, max_length=most, padding="max_length")["input_ids"]
    if name != "clip":  # CLIP is padded with the end token, which does not change its output
        assert ours([*DIFFICULT_TEXTS]).ids.tolist() == padded
    width = most if tower.input.padding == "max_tokens" else len(expected)
    assert tower.tokenize(DIFFICULT_TEXTS[-1]) == padded[-1][:width]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@pytest.mark.parametrize("name", CASES)
def test_ids_equal_those_of_transformers_for_any_text(
    tokenizers_of: Callable[[str], tuple[Any, Tokenizer]], name: str, text: str
) -> None:
    reference, ours = tokenizers_of(name)
    expected = reference(text, truncation=True, max_length=64)["input_ids"]
    assert ours([text]).ids[0, : len(expected)].tolist() == expected


@pytest.fixture(scope="module")
def tokenizers_of(
    checkpoint: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Any, Tokenizer]]:
    made = {}
    for name, (architecture, _) in CASES.items():
        options = {} if name == "siglip" else {"max_tokens": 64}
        tower, ours = loaded(checkpoint[architecture], architecture, tmp_path_factory.mktemp(name), **options)
        made[name] = (transformers.AutoTokenizer.from_pretrained(checkpoint[architecture]), ours)
        assert tower.input.max_tokens == 64
    return made.__getitem__


# Without special tokens, which are case-sensitive.
@pytest.mark.parametrize("text", [text for text in DIFFICULT_TEXTS if "<" not in text])
def test_lowercase_option_lowercases_before_tokenizing(checkpoint: dict[str, Path], tmp_path: Path, text: str) -> None:
    tower, ours = loaded(checkpoint["siglip-text"], "siglip-text", tmp_path, lowercase=True)
    reference = transformers.AutoTokenizer.from_pretrained(checkpoint["siglip-text"])
    lower = "".join(letter.lower() for letter in text)
    expected = reference(lower, truncation=True, max_length=64, padding="max_length")["input_ids"]
    assert ours([text]).ids[0].tolist() == tower.tokenize(text) == expected


def test_siglip_texts_are_padded_to_full_length_and_bert_texts_are_not(
    checkpoint: dict[str, Path], tmp_path: Path
) -> None:
    _, siglip = loaded(checkpoint["siglip-text"], "siglip-text", tmp_path)
    _, bert = loaded(checkpoint["bert"], "bert", tmp_path)
    assert siglip(["a dog"]).ids.shape == siglip([""]).ids.shape == (1, 64)
    assert siglip([]).ids.shape == (0, 64)
    assert bert(["a dog"]).ids.shape == (1, 8)
    assert bert([]).ids.shape == (0, 8)
    assert siglip(["a dog"]).ids.dtype == np.int64


def test_russian_words_of_the_training_text_are_single_tokens(checkpoint: dict[str, Path], tmp_path: Path) -> None:
    _, ours = loaded(checkpoint["siglip-text"], "siglip-text", tmp_path, lowercase=True)
    assert ours(["Собака бежит"]).mask.sum() == 3
