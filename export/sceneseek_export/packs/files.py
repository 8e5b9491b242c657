"""Packs as TOML files: those that come with sceneseek, and a user's own."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sceneseek.errors import DataError, InvalidRequest
from sceneseek_export.packs.pack import FOLDER, Pack

SUFFIX = ".toml"

_PACK = TypeAdapter(Pack)


def pack_names() -> list[str]:
    """Those that come with sceneseek."""
    return sorted(path.stem for path in _shipped().glob(f"*{SUFFIX}"))


def find_pack(name: str | Path) -> Pack:
    """The pack of that name, or of that TOML file.

    Raises:
        InvalidRequest: no such pack; the message lists those there are.
        DataError: the file cannot be read, or is not a pack.
    """
    if str(name).endswith(SUFFIX):
        return read_pack(Path(name))
    if str(name) not in pack_names():
        raise InvalidRequest(
            f"unknown pack {str(name)!r}", f"choose one of {', '.join(pack_names())}, or name a {SUFFIX} file"
        )
    return read_pack(_shipped() / f"{name}{SUFFIX}")


def read_pack(path: Path) -> Pack:
    """A pack from a TOML file (docs/how-to/packs.md); relative directories in it are relative to the file.

    Raises:
        DataError: it cannot be read, is not TOML, or does not describe a pack; the message names the place.
    """
    advice = "see docs/how-to/packs.md for what a pack says"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"there is no pack at {path}", "choose another --pack") from None
    except (OSError, ValueError) as error:
        raise DataError(f"the pack {path} cannot be read ({error})", advice) from error
    for tower in (*_tables(raw, "image_towers"), *_tables(raw, "text_towers")):
        source = tower.get("source")
        if isinstance(source, str) and source.startswith(FOLDER):
            tower["source"] = f"{FOLDER}{path.parent / source.removeprefix(FOLDER)}"
        if isinstance(tower.get("input"), dict):
            tower["input"].setdefault("name", tower.get("name"))
    try:
        return _PACK.validate_python(raw)
    except ValidationError as error:
        # A misspelt key is told before what is missing for it.
        first = min(error.errors(), key=lambda found: found["type"] != "unexpected_keyword_argument")
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise DataError(f"the pack {path} does not fit ({f'{where}: ' if where else ''}{said})", advice) from error


def _tables(raw: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = raw.get(name)
    return [table for table in found if isinstance(table, dict)] if isinstance(found, list) else []


def _shipped() -> Path:
    return Path(str(resources.files("sceneseek_export.packs")))
