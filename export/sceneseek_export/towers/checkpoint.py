"""Resolves a source, ``hub:OWNER/NAME@REVISION`` or ``dir:DIRECTORY``, to a directory in the model hub's layout.

From the hub, the configuration, the preprocessor's and the tokenizer's files and one copy of the weights (preferably
safetensors) are downloaded at a pinned commit. A complete copy in the hub's local cache needs no network.
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

# The hub's client reads this on import; only this package imports it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

CONFIG = "config.json"
# In the order in which transformers looks for them; transformers 5 writes the second for models of images and texts,
# with the configurations of both.
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
# In the order of preference of transformers; each may also be an index of shards.
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
# Files that define a tokenizer; the others only configure it.
_VOCABULARY = frozenset({"tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model"})

TIMEOUT = 10.0

_PINNED = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")

Spec = ImageTowerSpec | TextTowerSpec


def checkpoint(spec: Spec) -> Path:
    """The directory of a tower's source, downloaded from the hub if necessary.

    Raises:
        ExportError: the source is of another kind, does not pin a commit, or cannot be downloaded; or the directory is
            missing or has no configuration.
    """
    if spec.source.startswith(FOLDER):
        return _local(spec, Path(spec.source.removeprefix(FOLDER)))
    if spec.source.startswith(HUB):
        return _from_hub(spec, spec.source.removeprefix(HUB))
    raise ExportError(
        f"tower {spec.name!r}, a {spec.architecture!r}, cannot come from {spec.source!r}",
        f"its source must be {HUB}OWNER/NAME@REVISION or {FOLDER}DIRECTORY",
    )


def weight_files(folder: Path, spec: Spec) -> tuple[Path, ...]:
    """The weights files of a directory, as transformers reads them: one file, or the shards of an index.

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
        raise ExportError(f"the source of tower {spec.name!r}, {folder}, is not a directory", "choose another")
    if not (folder / CONFIG).is_file():
        raise ExportError(
            f"the source of tower {spec.name!r}, {folder}, has no {CONFIG}",
            "choose a directory laid out as the model's repository on the hub",
        )
    return folder


def _from_hub(spec: Spec, source: str) -> Path:
    matched = _PINNED.fullmatch(source)
    if matched is None:
        raise ExportError(
            f"the source of tower {spec.name!r}, {HUB}{source}, does not pin a revision",
            f"write {HUB}OWNER/NAME@REVISION, where REVISION is a commit of 40 hex digits",
        )
    name, revision = matched.groups()
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError  # noqa: PLC0415

    local = f"download it elsewhere and pass its directory: --weights {name}=DIRECTORY"
    try:
        return _cached(spec, name, revision) or _fetched(name, revision)
    except GatedRepoError as error:
        raise ExportError(f"the model {name} on the hub requires accepting its terms first", local) from error
    except ValueError as error:
        raise ExportError(f"{name} is not a valid model name on the hub ({_reason(error)})", local) from error
    except RepositoryNotFoundError as error:
        raise ExportError(f"the hub has no public model {name}", local) from error
    except RevisionNotFoundError as error:
        raise ExportError(f"the model {name} on the hub has no revision {revision}", local) from error
    except OSError as error:  # the base class of the client's and the network's errors
        if error.errno is not None and not isinstance(error, (ConnectionError, TimeoutError)):
            raise ExportError(
                f"the model {name} cannot be stored in the hub's cache ({error.strerror})",
                "free some space, or set HF_HOME to another directory",
            ) from error
        raise ExportError(f"the model hub cannot be reached for {name} ({_reason(error)})", local) from error


def _cached(spec: Spec, name: str, revision: str) -> Path | None:
    """The copy in the hub's local cache; None if it is missing or lacks a file that the tower needs."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        weight_files(folder, spec)
    except (LocalEntryNotFoundError, ExportError):
        return None
    names = {path.name for path in folder.iterdir()}
    if isinstance(spec, TextTowerSpec):
        complete = bool(names & _VOCABULARY)
    else:
        complete = bool(names & set(PREPROCESSORS)) or spec.input is not None
    return folder if complete and CONFIG in names else None


def _fetched(name: str, revision: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import tqdm  # noqa: PLC0415

    class Bar(tqdm):
        """The client's progress bar, shown only on a terminal."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": None})  # type: ignore[no-untyped-call]

    files = HfApi().model_info(name, revision=revision, timeout=TIMEOUT).siblings or []
    wanted = _wanted([file.rfilename for file in files])
    folder = snapshot_download(name, revision=revision, allow_patterns=wanted, etag_timeout=TIMEOUT, tqdm_class=Bar)
    return Path(folder)


def _wanted(files: Collection[str]) -> list[str]:
    """The files of a repository to download: one copy of the weights, and none for other frameworks."""
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
    first = (str(error).splitlines() or [""])[0]
    return first if 0 < len(first) <= 120 else type(error).__name__
