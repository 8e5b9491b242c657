"""Heads on disk: `head.json` (kind, parameters, figures, and where one was found a `match`) and `head.npz` (arrays)."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sceneseek.bundle import MatchThreshold
from sceneseek.errors import DataError
from sceneseek.files import UNREADABLE, write_atomic
from sceneseek_export.heads.base import Head
from sceneseek_export.heads.kinds import ConstantHead, CosineHead, LinearHead, MlpHead, TreesHead

WEIGHTS, CARD = "head.npz", "head.json"
SCHEMA = 2
_KINDS: dict[str, Any] = {head.kind: head for head in (ConstantHead, CosineHead, LinearHead, MlpHead, TreesHead)}


def save_head(head: Head, directory: Path) -> None:
    """Write a head's two files; the same head gives the same bytes."""
    values, arrays = head.parameters()
    structure = {
        "schema_version": SCHEMA,
        "kind": head.kind,
        "towers": list(head.towers),
        "alignment": head.alignment,
        **values,
        "validation": dict(head.validation),
    }
    if head.match is not None:
        structure["match"] = asdict(head.match)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomic(directory / WEIGHTS, content.getvalue())
    write_atomic(directory / CARD, (json.dumps(structure, indent=2) + "\n").encode("utf-8"))


def load_head(directory: Path) -> Head:
    """Read what `save_head` wrote.

    Raises:
        DataError: the files are missing, broken, or of another schema or kind.
    """
    advice = "write it with `sceneseek train heads --out DIR`"
    try:
        raw = json.loads((directory / CARD).read_text(encoding="utf-8"))
        if raw["schema_version"] != SCHEMA or raw["kind"] not in _KINDS:
            raise DataError(f"{directory / CARD} is not a head that this program reads", advice)
        with (directory / WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        found = _KINDS[raw["kind"]].of_files(raw, arrays)
        match = MatchThreshold(**raw["match"]) if "match" in raw else None
        head: Head = replace(found, match=match)
    except FileNotFoundError as error:
        raise DataError(f"no head in {directory} ({Path(error.filename).name} is missing)", advice) from error
    except UNREADABLE as error:
        raise DataError(f"the head in {directory} cannot be read ({error!r})", advice) from error
    return head
