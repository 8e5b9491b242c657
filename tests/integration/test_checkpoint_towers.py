"""Towers loaded from Hugging Face checkpoints match the transformers models, or fail with a clear error.

The weights are random. Largest measured difference: 2e-6 here, 4e-6 at full size (ResNet50, BERT base, CLIP ViT-B/32,
SigLIP 2 base).
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tokenizers
import torch
import transformers as untyped_transformers
from sentencepiece import SentencePieceTrainer

from sceneseek.encoders import Tokenizer
from sceneseek.errors import ExportError
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec, find_pack, hub_name
from sceneseek_export.towers import ImageTower, TextTower, load_image_tower, load_text_tower
from sceneseek_export.towers import pretrained as pretrained_module
from tests import checkpoints
from tests.conftest import ROOT

transformers: Any = untyped_transformers

LIMIT = 1e-5  # a tenth of the export tolerance
BATCHES = (1, 2, 3, 64)

Reference = Callable[[Path, torch.Tensor], list[torch.Tensor]]


@pytest.fixture(scope="module", autouse=True)
def quiet_reference() -> Iterator[None]:
    """Silence warnings of the transformers models that serve as reference."""
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    yield
    transformers.utils.logging.set_verbosity(level)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint of each kind. Read only: copy one before you change it."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        "resnet": checkpoints.resnet(root / "resnet"),
        "resnet without head": checkpoints.resnet(root / "resnet-plain", head=False),
        "bert": checkpoints.bert(root / "bert"),
        "clip": checkpoints.clip(root / "clip"),
        "clip in one .bin": checkpoints.clip(root / "clip-bin", legacy=False, binary=True),
        "siglip": checkpoints.siglip(root / "siglip"),
    }


def image_tower(architecture: str, folder: Path) -> ImageTower:
    return load_image_tower(ImageTowerSpec("eye", architecture, f"dir:{folder}"))


def text_tower(architecture: str, folder: Path, **options: Any) -> TextTower:
    return load_text_tower(TextTowerSpec("ear", architecture, f"dir:{folder}", **options))


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def resnet_whole(folder: Path, pixels: torch.Tensor) -> list[torch.Tensor]:
    model = transformers.ResNetForImageClassification.from_pretrained(folder).eval()
    pooled: list[torch.Tensor] = []
    model.resnet.register_forward_hook(lambda _module, _inputs, out: pooled.append(out.pooler_output[:, :, 0, 0]))
    logits = model(pixels).logits
    return [*pooled, logits]


def resnet_plain(folder: Path, pixels: torch.Tensor) -> list[torch.Tensor]:
    return [transformers.AutoModel.from_pretrained(folder).eval()(pixels).pooler_output[:, :, 0, 0]]


def features_of_both(folder: Path, pixels: torch.Tensor) -> list[torch.Tensor]:
    return [transformers.AutoModel.from_pretrained(folder).eval().get_image_features(pixel_values=pixels)]


IMAGES: dict[str, tuple[str, str, Reference]] = {
    "resnet": ("resnet", "resnet", resnet_whole),
    "resnet without head": ("resnet", "resnet without head", resnet_plain),
    "clip": ("clip-image", "clip", features_of_both),
    "clip in one .bin": ("clip-image", "clip in one .bin", features_of_both),
    "siglip": ("siglip-image", "siglip", features_of_both),
}


@pytest.mark.parametrize("name", IMAGES)
@torch.inference_mode()
def test_image_tower_matches_reference_model_at_every_batch_size(drawn: dict[str, Path], name: str) -> None:
    architecture, folder, reference = IMAGES[name]
    tower = image_tower(architecture, drawn[folder])
    run = session(tower.to_onnx())
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(max(BATCHES), 3, tower.input.height, tower.input.width)).astype(np.float32)
    expected = [out.numpy() for out in reference(drawn[folder], torch.from_numpy(pixels))]
    assert [out.name for out in run.get_outputs()] == ["features", "logits"][: len(expected)]
    assert expected[0].shape[1] == tower.features
    assert tower.classes == (1000 if len(expected) == 2 else 0)
    for batch in BATCHES:
        outputs = run.run(None, {"pixels": pixels[:batch]})
        module = tower.reference(pixels[:batch])
        assert module[1].shape == (batch, tower.classes)
        for ours, theirs, expected_rows in zip(outputs, module, expected, strict=False):
            assert np.abs(ours - expected_rows[:batch]).max() < LIMIT
            assert np.abs(theirs - expected_rows[:batch]).max() < LIMIT


def bert_mean(folder: Path, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    means = [row[row_mask.bool()].mean(0) for row, row_mask in zip(hidden, mask, strict=True)]
    return torch.stack(means)


def bert_cls(folder: Path, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    first: torch.Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
    return first


def clip_features(folder: Path, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    text: torch.Tensor = model.get_text_features(input_ids=ids, attention_mask=mask)
    return text


def siglip_features(folder: Path, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    text: torch.Tensor = model.get_text_features(input_ids=ids)
    return text


TEXTS: dict[str, tuple[str, str, dict[str, Any], Any]] = {
    "bert, mean": ("bert", "bert", {"max_tokens": 128}, bert_mean),
    "bert, first token": ("bert", "bert", {"pooling": "cls"}, bert_cls),
    "clip": ("clip-text", "clip", {}, clip_features),
    "clip in one .bin": ("clip-text", "clip in one .bin", {}, clip_features),
    "siglip": ("siglip-text", "siglip", {"lowercase": True}, siglip_features),
}


@pytest.mark.parametrize("name", TEXTS)
@torch.inference_mode()
def test_text_tower_matches_reference_model_at_every_text_length(
    drawn: dict[str, Path], tmp_path: Path, name: str
) -> None:
    architecture, kind, options, reference = TEXTS[name]
    tower = text_tower(architecture, drawn[kind], **options)
    run = session(tower.to_onnx())
    input_names = {put.name for put in run.get_inputs()}
    path = tmp_path / tower.input.tokenizer
    path.write_bytes(tower.tokenizer)
    tokenizer = Tokenizer(path, tower.input)

    def ours(texts: list[str]) -> np.ndarray:
        tokens = tokenizer(texts)
        feed = {"input_ids": tokens.ids, "attention_mask": tokens.mask}
        out: np.ndarray = run.run(["text"], {put: feed[put] for put in input_names})[0]
        return out

    def expected(text: str) -> tuple[np.ndarray, np.ndarray]:
        ids = torch.tensor([tower.tokenize(text)])
        mask = torch.ones_like(ids)
        return reference(drawn[kind], ids, mask).numpy(), tower.reference(ids.numpy(), mask.numpy())

    words = "a dog runs through the snow and a cat sleeps " * 20
    texts = ["", "a", *(words[:cut] for cut in (9, 33, 70, 120, 200, 900)), "собака бежит по снегу", "🐶 DOG"]
    wanted, module = (np.concatenate(rows) for rows in zip(*map(expected, texts), strict=True))
    assert wanted.shape == (len(texts), tower.width)
    assert np.abs(module - wanted).max() < LIMIT
    for i, text in enumerate(texts):  # a single text is padded to its own bucket
        assert np.abs(ours([text]) - wanted[i]).max() < LIMIT, text
    for batch in BATCHES:  # a batch is padded to its longest text
        rows = [i % len(texts) for i in range(batch)]
        assert np.abs(ours([texts[i] for i in rows]) - wanted[rows]).max() < LIMIT


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("resnet", "resnet"),
        ("clip-image", "clip"),
        ("siglip-image", "siglip"),
        ("bert", "bert"),
        ("clip-text", "clip"),
        ("siglip-text", "siglip"),
    ],
)
def test_exported_graph_is_standard_reproducible_onnx_without_local_paths(
    drawn: dict[str, Path], architecture: str, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    load: Any = text_tower if architecture in ("bert", "clip-text", "siglip-text") else image_tower
    capfd.readouterr()
    tower = load(architecture, drawn[kind])
    first, second = (tower.to_onnx().SerializeToString(deterministic=True) for _ in range(2))
    assert capfd.readouterr() == ("", "")
    assert first == second
    model = onnx.load_from_string(first)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert not model.metadata_props
    for private in (str(Path.cwd()), str(Path.home()), str(drawn[kind]), "site-packages", ".py"):
        assert private.encode() not in first


def test_classifier_without_imagenet_classes_exports_no_logits(tmp_path: Path) -> None:
    few, others = checkpoints.resnet(tmp_path / "1", labels=10), checkpoints.resnet(tmp_path / "2", imagenet=False)
    for folder in (few, others):
        tower = image_tower("resnet", folder)
        assert tower.classes == 0
        assert [out.name for out in tower.to_onnx().graph.output] == ["features"]


@pytest.mark.parametrize(
    "pack", ["resnet50-bert", "clip", "hybrid", ROOT / "docs" / "how-to" / "packs" / "siglip2.toml"]
)
def test_hub_packs_load_from_local_directories(drawn: dict[str, Path], pack: str | Path) -> None:
    local = {
        "microsoft/resnet-50": drawn["resnet"],
        "google-bert/bert-base-uncased": drawn["bert"],
        "openai/clip-vit-base-patch32": drawn["clip in one .bin"],
        "google/siglip2-base-patch16-224": drawn["siglip"],
    }
    found = find_pack(pack)
    local_pack = found.with_local({name: local[name] for name in {hub_name(tower.source) for tower in found.towers}})
    images = {spec.name: load_image_tower(spec) for spec in local_pack.image_towers}
    texts = {spec.name: load_text_tower(spec) for spec in local_pack.text_towers}
    if local_pack.joint_space is not None:
        image, text = images[local_pack.joint_space.image], texts[local_pack.joint_space.text]
        assert image.features == text.width
        assert (local_pack.joint_space.slope is None) == (text.curve is not None)
    assert "resnet50" not in images or images["resnet50"].classes == 1000
    assert "bert" not in texts or texts["bert"].input.max_tokens == 128


def test_siglip_text_tower_has_trained_calibration_curve(drawn: dict[str, Path]) -> None:
    curve = text_tower("siglip-text", drawn["siglip"]).curve
    assert curve is not None
    model = transformers.AutoModel.from_pretrained(drawn["siglip"])
    assert curve == pytest.approx((model.logit_scale.exp().item(), model.logit_bias.item()))
    assert text_tower("clip-text", drawn["clip"]).curve is None


def test_tower_inputs_follow_checkpoint_configuration(drawn: dict[str, Path]) -> None:
    bert, clip = text_tower("bert", drawn["bert"]).input, text_tower("clip-text", drawn["clip"]).input
    siglip = text_tower("siglip-text", drawn["siglip"]).input
    assert (bert.max_tokens, clip.max_tokens, siglip.max_tokens) == (512, 77, 64)
    assert (bert.padding, clip.padding, siglip.padding) == ("bucket", "bucket", "max_tokens")
    resnet = image_tower("resnet", drawn["resnet"]).input
    assert (resnet.fit, resnet.shortest_edge, resnet.height, resnet.interpolation) == ("crop", 256, 224, "bicubic")
    assert image_tower("siglip-image", drawn["siglip"]).input.fit == "squash"


def test_clip_width_follows_top_level_projection_dim(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["clip"], tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["vision_config"]["projection_dim"] = config["text_config"]["projection_dim"] = 512
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert image_tower("clip-image", folder).features == text_tower("clip-text", folder).width == 24


def test_image_tower_loads_from_vision_only_checkpoint(drawn: dict[str, Path], tmp_path: Path) -> None:
    whole = image_tower("clip-image", drawn["clip"])
    folder = copied(drawn["clip"], tmp_path)
    (folder / "model.safetensors").unlink()
    transformers.CLIPVisionModelWithProjection.from_pretrained(drawn["clip"]).save_pretrained(folder)
    pixels = np.ones((1, 3, 64, 64), np.float32)
    half = image_tower("clip-image", folder)
    for ours, theirs in zip(half.reference(pixels), whole.reference(pixels), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1.3e-6, atol=1e-5)
    refused("is a 'clip_vision_model'", "clip-text", folder)


def test_sharded_weights_are_loaded_and_all_hashed(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    shutil.copytree(drawn["bert"], folder)
    (folder / "model.safetensors").unlink()
    model = transformers.BertForMaskedLM.from_pretrained(drawn["bert"])
    model.save_pretrained(folder, max_shard_size="1MB")
    whole, sharded = text_tower("bert", drawn["bert"]), text_tower("bert", folder)
    shards = sorted(folder.glob("*.safetensors"))
    assert len(shards) > 1
    one, other = (tower.reference(*tower.prepared("a dog")) for tower in (whole, sharded))
    np.testing.assert_array_equal(one, other)
    before = sharded.provenance().sha256
    last = shards[-1]
    state = last.read_bytes()
    last.write_bytes(state[:-1] + bytes([state[-1] ^ 1]))
    assert text_tower("bert", folder).provenance().sha256 != before
    last.unlink()
    with pytest.raises(ExportError, match=f"lack.*{last.name}"):
        text_tower("bert", folder)


def copied(checkpoint: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    return folder


def refused(message: str, architecture: str, folder: Path, **options: Any) -> ExportError:
    load: Any = text_tower if architecture in ("bert", "clip-text", "siglip-text") else image_tower
    with pytest.raises(ExportError, match=message) as caught:
        load(architecture, folder, **options)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("kept", [0.0, 0.0001, 0.02, 0.9])
@pytest.mark.parametrize("kind", ["clip", "clip in one .bin"])
def test_truncated_weights_error_names_file(drawn: dict[str, Path], tmp_path: Path, kind: str, kept: float) -> None:
    folder = copied(drawn[kind], tmp_path)
    file = next(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    for architecture in ("clip-image", "clip-text"):
        assert "download it again" in refused(re.escape(str(file)), architecture, folder).hint


@pytest.mark.parametrize("kind", ["clip", "clip in one .bin"])
def test_git_lfs_pointer_error_names_file(drawn: dict[str, Path], tmp_path: Path, kind: str) -> None:
    folder = copied(drawn[kind], tmp_path)
    file = next(path for path in folder.iterdir() if path.suffix in (".safetensors", ".bin"))
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 400000000\n", encoding="utf-8")
    refused(re.escape(str(file)), "clip-image", folder)


def test_missing_weights_are_rejected(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["bert"], tmp_path)
    (folder / "model.safetensors").unlink()
    refused("no weights in", "bert", folder)


def test_missing_or_misshapen_tensor_is_rejected(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["clip"], tmp_path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["num_hidden_layers"] = 3
    config["projection_dim"] = 7
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(r"lacks text_model.encoder.layers.2.* and \d+ more", "clip-text", folder)
    refused("lacks visual_projection.weight, or has it in another shape", "clip-image", folder)


@pytest.mark.parametrize(
    ("architecture", "kind", "hint"),
    [
        ("bert", "resnet", "may be resnet"),
        ("resnet", "siglip", "may be siglip-image or siglip-text"),
        ("siglip-text", "clip", "may be clip-image or clip-text"),
        ("clip-image", "siglip", "may be siglip-image"),
    ],
)
def test_architecture_mismatch_error_suggests_architecture(
    drawn: dict[str, Path], architecture: str, kind: str, hint: str
) -> None:
    error = refused(f"is a '{architecture}' but its checkpoint .* is a '{kind}'", architecture, drawn[kind])
    assert hint in error.hint


@pytest.mark.parametrize(
    ("model_type", "hint"),
    [("vit", "supported are resnet, bert"), ("siglip2", "NaFlex"), ("no such model", "supported")],
)
def test_unknown_architecture_error_lists_known_ones(
    drawn: dict[str, Path], tmp_path: Path, model_type: str, hint: str
) -> None:
    folder = copied(drawn["siglip"], tmp_path)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    assert hint in refused(f"is a '{model_type}'", "siglip-image", folder).hint


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null"])
def test_invalid_configuration_is_rejected(drawn: dict[str, Path], tmp_path: Path, content: str) -> None:
    folder = copied(drawn["bert"], tmp_path)
    (folder / "config.json").write_text(content, encoding="utf-8")
    refused("config.json", "bert", folder)


@pytest.mark.parametrize(("architecture", "kind"), [("bert", "bert"), ("clip-text", "clip"), ("siglip-text", "siglip")])
def test_missing_tokenizer_is_rejected(drawn: dict[str, Path], tmp_path: Path, architecture: str, kind: str) -> None:
    folder = copied(drawn[kind], tmp_path)
    for name in ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    refused("has no tokenizer in", architecture, folder)


def test_invalid_tokenizer_is_rejected(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["siglip"], tmp_path)
    (folder / "tokenizer.json").write_text('{"model": ', encoding="utf-8")
    refused("the tokenizer of tower 'ear' .* cannot be read", "siglip-text", folder)


def test_slow_tokenizer_is_rejected(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["bert"], tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({"tokenizer_class": "CanineTokenizer"}), encoding="utf-8")
    refused("CanineTokenizer .* no fast form", "bert", folder)


def test_slow_siglip_1_tokenizer_is_rejected(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["siglip"], tmp_path)
    for name in ("tokenizer.json", "special_tokens_map.json"):
        (folder / name).unlink()
    written, corpus = io.BytesIO(), iter(["two dogs run", "a cat sleeps"])
    SentencePieceTrainer.train(
        sentence_iterator=corpus, model_writer=written, vocab_size=20, model_type="char", minloglevel=2
    )
    (folder / "spiece.model").write_bytes(written.getvalue())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "SiglipTokenizer"}', encoding="utf-8")
    refused("SiglipTokenizer .* no fast form", "siglip-text", folder)
    (folder / "spiece.model").write_bytes(b"no sentencepiece model")
    refused("cannot be read", "siglip-text", folder)


def test_tokenizer_is_built_from_vocabulary_files(drawn: dict[str, Path], tmp_path: Path) -> None:
    for architecture, kind in (("bert", "bert"), ("clip-text", "clip")):
        folder = tmp_path / kind
        shutil.copytree(drawn[kind], folder)
        (folder / "tokenizer.json").unlink()
        text = "Two dogs, один кот 🐶"
        assert text_tower(architecture, folder).tokenize(text) == text_tower(architecture, drawn[kind]).tokenize(text)


def test_max_tokens_outside_model_range_is_rejected(drawn: dict[str, Path]) -> None:
    refused("3 to 512 tokens, not 513", "bert", drawn["bert"], max_tokens=513)
    refused("3 to 77 tokens, not 2", "clip-text", drawn["clip"], max_tokens=2)
    refused("trained on texts of 64 tokens", "siglip-text", drawn["siglip"], max_tokens=32)


def test_left_padding_is_rejected_for_siglip(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["siglip"], tmp_path)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "padding_side": "left"}), encoding="utf-8")
    refused("pads on the left", "siglip-text", folder)


def test_image_size_mismatch_is_rejected(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["clip"], tmp_path)
    path = folder / "preprocessor_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "size": 96, "crop_size": 96}), encoding="utf-8")
    refused("needs pictures of 64 x 64, not 96 x 96", "clip-image", folder)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers_5_checkpoint_loads_like_transformers_4_checkpoint(
    drawn: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    folder = checkpoints.as_transformers_5_saves_it(copied(drawn[kind], tmp_path))
    assert image_tower(f"{kind}-image", folder).input == image_tower(f"{kind}-image", drawn[kind]).input
    before, after = text_tower(f"{kind}-text", drawn[kind]), text_tower(f"{kind}-text", folder)
    assert after.input == before.input
    for text in ("a dog", "Ein Häuschen, zwei DOGS!", "", "long " * 100):
        assert after.tokenize(text) == before.tokenize(text)
        served = [tokenizers.Tokenizer.from_str(tower.tokenizer.decode()).encode(text).ids for tower in (before, after)]
        assert served[0] == served[1]


def test_processor_without_image_settings_is_rejected(drawn: dict[str, Path], tmp_path: Path) -> None:
    folder = copied(drawn["clip"], tmp_path)
    (folder / "preprocessor_config.json").unlink()
    refused("has no preprocessor_config.json or processor_config.json", "clip-image", folder)
    (folder / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}', encoding="utf-8")
    refused("does not configure images", "clip-image", folder)


def configured(folder: Path, *inside: str, **fields: object) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    part = config
    for name in inside:
        part = part[name]
    part.update(fields)
    path.write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("inside", [(), ("text_config",), ("vision_config",)])
@pytest.mark.parametrize(
    "fields",
    [
        {"attn_implementation": "kernels-community/flash-attn"},
        {"_attn_implementation": "somebody/kernels@main:attention"},
        {"_attn_implementation_internal": "somebody/kernels"},
        {"attn_implementation": {"": "eager", "text_config": "somebody/kernels"}},
        {"attn_implementation": "paged|somebody/kernels"},
        {"use_kernels": True},
    ],
    ids=str,
)
def test_remote_attention_kernels_are_rejected(
    drawn: dict[str, Path], tmp_path: Path, inside: tuple[str, ...], fields: dict[str, object]
) -> None:
    folder = configured(copied(drawn["clip"], tmp_path), *inside, **fields)
    for architecture in ("clip-image", "clip-text"):
        refused("loads its attention code from elsewhere", architecture, folder)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("bert", "bert"), ("clip", "clip-text"), ("clip", "clip-image"), ("siglip", "siglip-image")],
)
def test_towers_use_eager_attention_regardless_of_configuration(
    drawn: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, architecture: str
) -> None:
    folder = configured(copied(drawn[kind], tmp_path), attn_implementation="sdpa", use_kernels=False)
    fused: list[str] = []
    original = torch.nn.functional.scaled_dot_product_attention

    def counting(*arguments: Any, **options: Any) -> torch.Tensor:
        fused.append(architecture)
        return original(*arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    if architecture.endswith("image"):
        tower = image_tower(architecture, folder)
        tower.reference(np.zeros((1, 3, tower.input.height, tower.input.width), np.float32))
    else:
        ids = np.ones((1, 8), np.int64)
        text_tower(architecture, folder).reference(ids, ids)
    assert not fused


def test_model_too_large_for_onnx_file_is_rejected(drawn: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained_module, "_MOST_BYTES", 1000)
    refused("an ONNX file is limited to 2 GiB", "bert", drawn["bert"])


@pytest.mark.parametrize("source", ["dir:nowhere", "pypi:some-package==1"])
def test_source_without_checkpoint_is_rejected(source: str) -> None:
    with pytest.raises(ExportError, match="tower 'ear'"):
        load_text_tower(TextTowerSpec("ear", "bert", source))


def test_directory_without_configuration_is_rejected(tmp_path: Path) -> None:
    refused("has no config.json", "bert", tmp_path)
