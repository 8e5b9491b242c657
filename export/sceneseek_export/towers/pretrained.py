"""Loads models and tokenizers of the transformers library from checkpoint directories, and checks that they fit.

The warnings of transformers and its tokenizers are suppressed; the important ones, about missing weights that would be
random, become errors.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import Any

import onnx
import torch
from tokenizers import Tokenizer, normalizers
from torch import Tensor

from sceneseek.bundle import ImageInput
from sceneseek.errors import ExportError
from sceneseek.files import sha256_of
from sceneseek.vectors import Floats
from sceneseek_export.packs import ImageTowerSpec, TextTowerSpec
from sceneseek_export.towers.base import Tokens
from sceneseek_export.towers.checkpoint import CONFIG, TOKENIZER, checkpoint, weight_files

Spec = ImageTowerSpec | TextTowerSpec

# The `model_type` in config.json for each architecture; a CLIP or SigLIP may be whole or one half.
MODEL_TYPES = {
    "resnet": ("resnet",),
    "bert": ("bert",),
    "clip-image": ("clip", "clip_vision_model"),
    "clip-text": ("clip", "clip_text_model"),
    "siglip-image": ("siglip", "siglip_vision_model"),
    "siglip-text": ("siglip", "siglip_text_model"),
}

# Attention that is part of transformers; any other name is that of a repository, whose code would be run. A tower loads
# eager attention regardless of its configuration.
_OWN_ATTENTION = (None, "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")
_KERNELS = ("use_kernels", "kernel_config", "kernels_config")

# Raised when loading files that are truncated, of another format, or missing.
_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError)

# ONNX files are protocol buffers, limited to 2 GiB; the graph needs some space in addition to its weights.
_MOST_BYTES = 2**31 - 2**24


@dataclass(frozen=True)
class Checkpoint:
    """A directory with a model of the architecture in the recipe.

    Attributes:
        spec: the recipe.
        folder: the directory.
        config: the parsed config.json.
        weights: the weights file, or its shards.
    """

    spec: Spec
    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]

    @property
    def sha256(self) -> str:
        """Hex sha256 of the weights file; for shards, of the output of `sha256sum` for them in the order of names."""
        sums = {path.name: sha256_of(path) for path in self.weights}
        if len(sums) == 1:
            return next(iter(sums.values()))
        listing = "".join(f"{value}  {name}\n" for name, value in sorted(sums.items()))
        return hashlib.sha256(listing.encode()).hexdigest()


def open_checkpoint(spec: Spec) -> Checkpoint:
    """Open and check the checkpoint of a tower.

    Raises:
        ExportError: see `checkpoint` and `weight_files`; or its model has another architecture, or its weights are
            truncated.
    """
    folder = checkpoint(spec)
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model_type = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{path} of tower {spec.name!r} is not a model configuration", "download it again") from error
    if model_type not in MODEL_TYPES[spec.architecture]:
        fits = [name for name, types in MODEL_TYPES.items() if model_type in types]
        hint = f"its architecture may be {' or '.join(fits)}" if fits else f"supported are {', '.join(MODEL_TYPES)}"
        if model_type == "siglip2":
            hint = "this is a NaFlex checkpoint, whose pictures vary in size; those of fixed resolution are 'siglip'"
        raise ExportError(
            f"tower {spec.name!r} is a {spec.architecture!r} but its checkpoint {folder} is a {model_type!r}", hint
        )
    if foreign := next(_foreign_attention(config), None):
        raise ExportError(
            f"{path} of tower {spec.name!r} loads its attention code from elsewhere ({foreign})",
            "code of a model is not run: remove the field, or choose another checkpoint",
        )
    weights = weight_files(folder, spec)
    for file in weights:
        _check_complete(file)
    return Checkpoint(spec, folder, config, weights)


def _foreign_attention(config: Any) -> Iterator[str]:
    """The fields of a configuration, at any depth, that select attention outside of transformers."""
    if isinstance(config, list):
        for part in config:
            yield from _foreign_attention(part)
    if not isinstance(config, dict):
        return
    for name, value in config.items():
        if "attn_implementation" in name:
            chosen = value.values() if isinstance(value, dict) else [value]
            yield from (f"{name}: {each}"[:200] for each in chosen if each not in _OWN_ATTENTION)
        elif name in _KERNELS and value:
            yield name
        else:
            yield from _foreign_attention(value)


def load_model(source: Checkpoint, kind: Any, **options: Any) -> Any:
    """Load a pretrained model of a class of transformers, in float32 and evaluation mode.

    Raises:
        ExportError: its weights cannot be read, some are missing or have another shape, or it is too large for ONNX.
    """
    name = source.spec.name
    files = ", ".join(str(file) for file in source.weights)
    try:
        with quiet():
            model, loading = kind.from_pretrained(
                source.folder,
                local_files_only=True,
                attn_implementation="eager",  # plain matrix products, which every runtime optimises
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported, and an error below
                **options,
            )
    except _UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"the weights of tower {name!r} cannot be read from {files} ({reason})", "download it again"
        ) from error
    mismatched = (key if isinstance(key, str) else key[0] for key in loading["mismatched_keys"])
    wrong = sorted({*loading["missing_keys"], *mismatched})
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ExportError(
            f"{files} of tower {name!r} lacks {wrong[0]}{more}, or has it in another shape than in {CONFIG}",
            "the checkpoint is incomplete, or its configuration is that of another model: download it again",
        )
    model = model.float().eval()
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    if size > _MOST_BYTES:
        raise ExportError(
            f"tower {name!r} has {size / 2**30:.1f} GiB of weights, and an ONNX file is limited to 2 GiB",
            "choose a smaller model",
        )
    return model


def exported(model: Any, kind: str, prepared: ImageInput | None = None) -> onnx.ModelProto:
    """The graph of a transformers model, exported with a configuration in `through_optimum`.

    Args:
        model: the model.
        kind: name of the configuration.
        prepared: the input of an image tower, whose size becomes part of the graph; None for a text tower.

    Raises:
        ExportError: the graph cannot be written to a temporary file.
    """
    from sceneseek_export.towers import through_optimum  # noqa: PLC0415 - takes seconds

    config = getattr(through_optimum, kind)(model.config)
    if prepared is not None:
        config.height, config.width = prepared.height, prepared.width
    return through_optimum.exported(model, config)


def torch_image_reference(forward: Callable[[Tensor], Any]) -> Callable[[Floats], tuple[Floats, Floats]]:
    """An `ImageTower.reference` that calls a function from pixels to features, or to features and logits."""

    def run(pixels: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            output = forward(torch.from_numpy(pixels))
            features, logits = output if isinstance(output, tuple) else (output, output.new_zeros(len(output), 0))
        return features.numpy(), logits.numpy()

    return run


def torch_text_reference(forward: Callable[[Tensor, Tensor], Any]) -> Callable[[Tokens, Tokens], Floats]:
    """A `TextTower.reference` that calls a function from ids and mask to vectors."""

    def run(input_ids: Tokens, attention_mask: Tokens) -> Floats:
        with torch.inference_mode():
            vectors: Floats = forward(torch.from_numpy(input_ids), torch.from_numpy(attention_mask)).numpy()
        return vectors

    return run


def load_numbers(source: Checkpoint, *names: str) -> tuple[float, ...] | None:
    """Read scalars among the weights by name; None if one is missing."""
    from safetensors import safe_open  # noqa: PLC0415

    numbers: dict[str, float] = {}
    for file in source.weights:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as tensors:
                keys = set(tensors.keys())
                numbers |= {name: float(tensors.get_tensor(name)) for name in names if name in keys}
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
            numbers |= {name: float(state[name]) for name in names if name in state}
    return tuple(numbers[name] for name in names) if len(numbers) == len(names) else None


@dataclass(frozen=True)
class LoadedTokenizer:
    """A checkpoint's tokenizer.

    Attributes:
        content: a file of the `tokenizers` library, without truncation and padding.
        source: the reference, of transformers.
        tokenize: see `TextTower.tokenize`.
    """

    content: bytes
    source: Any
    tokenize: Callable[[str], list[int]]


def load_tokenizer(source: Checkpoint, spec: TextTowerSpec, max_tokens: int, padded: bool = False) -> LoadedTokenizer:
    """Load the checkpoint's fast tokenizer; it converts to lower case first if the recipe has `lowercase`.

    Raises:
        ExportError: its files are missing or damaged, it has only a slow form, or it pads on the left.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # noqa: PLC0415 - takes seconds

    needs = f"it needs tokenizer.json, or files to build it from: {', '.join(TOKENIZER[4:8])}"
    if not any((source.folder / name).is_file() for name in TOKENIZER if name not in TOKENIZER[1:4]):
        raise ExportError(f"tower {spec.name!r} has no tokenizer in {source.folder}", needs)
    # Transformers 5 writes a complete tokenizer to tokenizer.json. The classes of version 4 would extend it by what is
    # missing in its configuration, such as another token at the start.
    kind: Any = PreTrainedTokenizerFast if _is_of_transformers_5(source.folder) else AutoTokenizer
    try:
        with quiet():
            reference: Any = kind.from_pretrained(
                source.folder, local_files_only=True, use_fast=True, trust_remote_code=False
            )
    except ImportError as error:  # of a slow tokenizer's library; the message begins with the tokenizer's class
        raise _slow(spec, source.folder, str(error).split()[0]) from error
    except Exception as error:  # `tokenizers` raises nothing more specific
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"the tokenizer of tower {spec.name!r} in {source.folder} cannot be read ({reason})", needs
        ) from error
    if reference is False:  # returned for a SentencePiece model that the library cannot read
        raise ExportError(f"the tokenizer of tower {spec.name!r} in {source.folder} cannot be read", needs)
    if not reference.is_fast:
        raise _slow(spec, source.folder, type(reference).__name__)
    if padded and reference.padding_side != "right":
        raise ExportError(
            f"the tokenizer of tower {spec.name!r} pads on the left", "only padding on the right is supported"
        )
    tokenizer = Tokenizer.from_str(reference.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if spec.lowercase:
        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])

    def tokenize(text: str) -> list[int]:
        # Letter by letter, as the library does: lower-casing the whole string would produce the Greek final sigma.
        lowered = "".join(letter.lower() for letter in text) if spec.lowercase else text
        padding = "max_length" if padded else False
        with quiet():
            ids = reference(lowered, truncation=True, max_length=max_tokens, padding=padding)["input_ids"]
        return [int(i) for i in ids]

    return LoadedTokenizer(tokenizer.to_str(pretty=True).encode(), reference, tokenize)


def _is_of_transformers_5(folder: Path) -> bool:
    try:
        config = json.loads((folder / TOKENIZER[1]).read_text(encoding="utf-8"))
        return config.get("backend") == "tokenizers" and (folder / TOKENIZER[0]).is_file()
    except (OSError, ValueError, AttributeError):
        return False


def _slow(spec: TextTowerSpec, folder: Path, kind: str) -> ExportError:
    return ExportError(
        f"tower {spec.name!r} has a {kind} in {folder}, which has no fast form",
        "choose a checkpoint with a tokenizer.json of the `tokenizers` library, which bundles use",
    )


def limit(spec: TextTowerSpec, most: int) -> int:
    """The number of tokens to which texts are truncated; `most` is the model's number of positions.

    Raises:
        ExportError: the recipe's `max_tokens` is out of range.
    """
    if spec.max_tokens is not None and not 2 < spec.max_tokens <= most:
        raise ExportError(
            f"tower {spec.name!r} reads 3 to {most} tokens, not {spec.max_tokens}", "change its max_tokens"
        )
    return spec.max_tokens or most


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings and the progress bars of transformers."""
    from transformers import utils  # noqa: PLC0415

    logging: Any = utils.logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _check_complete(file: Path) -> None:
    """Check that a safetensors file is complete, by its header; loading detects it for other files."""
    if file.suffix != ".safetensors":
        return
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(file, "pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ExportError(f"{file} is truncated or not a weights file ({error})", "download it again") from error
