"""A source becomes a directory in the model hub's layout: ``hub:OWNER/NAME@REVISION`` or ``dir:DIRECTORY``.

From the hub come the configuration, the preprocessor's and the tokenizer's files and one copy of the weights
(safetensors if there are), at a pinned commit; a complete copy in the hub's local cache needs no network.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sceneseek.errors import ExportError
from sceneseek_export.packs import FOLDER, HUB, ImageTowerSpec, TextTowerSpec

# The hub's client reads this when it is first imported, which only this package does.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

CONFIG = "config.json"
# In the order in which transformers looks for them; the second, which transformers 5 writes for a model of images and
# texts, holds the image's part beside the text's.
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
# In the order in which transformers prefers them; each may be an index of shards.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
# What makes a tokenizer, beside what merely describes one.
_VOCABULARY = frozenset({"tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model"})

TIMEOUT = 10.0

_PINNED = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")

Spec = ImageTowerSpec | TextTowerSpec


def checkpoint(spec: Spec) -> Path:
    """The directory that a tower's source names, fetched from the hub if need be.

    Raises:
        ExportError: the source is of another kind, names no commit, or cannot be had; or the directory is missing
            or holds no configuration.
    """
    if spec.source.startswith(FOLDER):
        return _local(spec, Path(spec.source.removeprefix(FOLDER)))
    if spec.source.startswith(HUB):
        return _from_hub(spec, spec.source.removeprefix(HUB))
    raise ExportError(
        f"tower {spec.name!r}, a {spec.architecture!r}, cannot come from {spec.source!r}",
        f"its source is {HUB}OWNER/NAME@REVISION or {FOLDER}DIRECTORY",
    )


def weight_files(folder: Path, spec: Spec) -> tuple[Path, ...]:
    """The weights that transformers reads in a directory: one file, or the shards that an index names.

    Raises:
        ExportError: there are none, or an index or one of its shards is missing or broken.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return (folder / name,)
        index = folder / _index(name)
        if index.is_file():
            shards = tuple(folder / shard for shard in _shards(index))
            for shard in shards:
                if not shard.is_file():
                    raise ExportError(f"the weights of tower {spec.name!r} lack {shard}", "download it again")
            return shards
    raise ExportError(f"tower {spec.name!r} has no weights in {folder}", f"it needs {' or '.join(WEIGHTS)}")


def _local(spec: Spec, folder: Path) -> Path:
    if not folder.is_dir():
        raise ExportError(f"tower {spec.name!r} comes from {folder}, which is no directory", "name another")
    if not (folder / CONFIG).is_file():
        raise ExportError(
            f"tower {spec.name!r} comes from {folder}, which holds no {CONFIG}",
            "the directory is laid out as the model's repository on the hub",
        )
    return folder


def _from_hub(spec: Spec, source: str) -> Path:
    matched = _PINNED.fullmatch(source)
    if matched is None:
        raise ExportError(
            f"tower {spec.name!r} comes from {HUB}{source}, which pins no revision",
            f"write {HUB}OWNER/NAME@REVISION, REVISION being a commit of 40 hex digits",
        )
    name, revision = matched.groups()
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError  # noqa: PLC0415

    local = f"download it elsewhere and name its directory: --weights {name}=DIRECTORY"
    try:
        return _cached(spec, name, revision) or _fetched(name, revision)
    except GatedRepoError as error:
        raise ExportError(f"the model {name} on the hub wants its terms accepted first", local) from error
    except ValueError as error:
        raise ExportError(f"{name} is no name of a model on the hub ({_reason(error)})", local) from error
    except RepositoryNotFoundError as error:
        raise ExportError(f"the hub has no public model {name}", local) from error
    except RevisionNotFoundError as error:
        raise ExportError(f"the model {name} on the hub has no revision {revision}", local) from error
    except OSError as error:  # the client's and the network's errors all are
        if error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError)):
            raise ExportError(
                f"the model {name} cannot be stored in the hub's cache ({error.strerror})",
                "free some space, or name another directory for it in HF_HOME",
            ) from error
        raise ExportError(f"the model hub cannot be reached for {name} ({_reason(error)})", local) from error


def _cached(spec: Spec, name: str, revision: str) -> Path | None:
    """The copy in the hub's local cache, if it is there with all that a tower of this kind reads."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        weight_files(folder, spec)
    except (LocalEntryNotFoundError, ExportError):
        return None
    there = {path.name for path in folder.iterdir()}
    if isinstance(spec, TextTowerSpec):
        complete = bool(there & _VOCABULARY)
    else:
        complete = bool(there & set(PREPROCESSORS)) or spec.input is not None
    return folder if complete and CONFIG in there else None


def _fetched(name: str, revision: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import tqdm  # noqa: PLC0415

    class Bar(tqdm):
        """The client's own, on a terminal only."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": None})  # type: ignore[no-untyped-call]

    files = HfApi().model_info(name, revision=revision, timeout=TIMEOUT).siblings or []
    wanted = _wanted([file.rfilename for file in files])
    folder = snapshot_download(name, revision=revision, allow_patterns=wanted, etag_timeout=TIMEOUT, tqdm_class=Bar)
    return Path(folder)


def _wanted(files: Collection[str]) -> list[str]:
    """Of a repository's files those to fetch: one copy of the weights, and nothing for other frameworks."""
    wanted = [name for name in (CONFIG, *PREPROCESSORS, *TOKENIZER) if name in files]
    for name in WEIGHTS:
        if name in files:
            return [*wanted, name]
        if _index(name) in files:
            stem, _, suffix = name.partition(".")
            return [*wanted, _index(name), f"{stem}-*-of-*.{suffix}"]
    return wanted


def _index(name: str) -> str:
    return f"{name}.index.json"


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ExportError(f"{index} cannot be read ({_reason(error)})", "download it again") from error


def _reason(error: Exception) -> str:
    said = (str(error).splitlines() or [""])[0]
    return said if 0 < len(said) <= 120 else type(error).__name__
