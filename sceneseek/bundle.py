"""A bundle: the directory that `export` writes and that `indexer` and `server` read, and its manifest.

`manifest.json` is a typed document: the towers and their hashes, the preprocessing of inputs, the dimensions, the head
and its validation, the sha256 of every file, and the sha256 of each file's recipe (weights, alignment, head, exporter).
Two fingerprints identify a bundle: `image` (recipe of the image graph and its preprocessing) determines which
collections the bundle can search, `bundle` covers everything that affects results. They are hashes of the inputs, not
of the outputs: they include neither the files' bytes nor the creation time nor measurements, so the same inputs give
the same fingerprints on every machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sceneseek.errors import BundleError
from sceneseek.files import sha256_of, write_atomic
from sceneseek.next_step import missing_bundle_hint

SCHEMA = 4
IMAGE_GRAPH, TEXT_GRAPH, SCORE_GRAPH = "image.onnx", "text.onnx", "score.onnx"
MANIFEST = "manifest.json"
# Cache of checked files: the sha256 and stat values of each.
CHECKED = ".checked.json"
# A check is cached only for files older than this many seconds: some file systems have timestamps in steps of 2 s.
SETTLED = 2.0

Fit = Literal["squash", "letterbox", "crop"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
Precision = Literal["fp32", "fp16", "int8"]
Colour: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """One pixel tensor of `image.onnx`, uint8 (N, height, width, 3), and the preprocessing of pictures for it.

    `fit` is how a picture is fitted to the target's aspect ratio: ``squash`` ignores the ratio, ``letterbox`` pads with
    `background`, ``crop`` takes the centre: the largest part with the target's ratio or, with `shortest_edge`, height
    by width pixels of the picture resized to that shortest edge (its longest becomes int(shortest_edge * longest /
    shortest); the corner is rounded down). `fit_transparent` is the fit of pictures with transparent parts, which are
    cut-outs rather than views; they are put on `background`. `mean` and `std` are applied inside the graph, on the
    0..255 scale.
    """

    name: str
    height: int
    width: int
    fit: Fit
    fit_transparent: Fit
    mean: Colour
    std: Colour
    background: tuple[int, int, int] = (255, 255, 255)
    interpolation: Interpolation = "bicubic"
    shortest_edge: int | None = None

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise ValueError(f"{self.height} by {self.width} pixels is not a valid size")
        if self.shortest_edge is not None and self.shortest_edge < max(self.height, self.width):
            raise ValueError("shortest_edge is less than height or width")


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """The token ids and mask of one text tower in `text.onnx`: int64 (N, L), L at most `max_tokens`.

    The graph's inputs are ``NAME.input_ids`` and, if the tower uses one, ``NAME.attention_mask``. `padding` is the
    length that texts are padded to: ``bucket`` is the longest of the batch rounded up to a bucket; ``max_tokens`` is
    for towers that were trained with it and use no mask. `tokenizer` is the name of a file of the `tokenizers` library
    (``.json``) or of a `sceneseek.unigram.Unigram` (``.npz``); `prefix` is prepended to each text. With `articles`,
    short texts get an article and their likeliest case, see `sceneseek.encoders.Tokenizer.as_read`. `multilingual` is
    whether the tower supports many languages.
    """

    name: str
    tokenizer: str
    max_tokens: int
    pad_id: int
    padding: Literal["bucket", "max_tokens"] = "bucket"
    articles: bool = False
    prefix: str = ""
    multilingual: bool = False


@dataclass(frozen=True, kw_only=True)
class Tower:
    """The origin of a pretrained encoder; `sha256` is that of its weights file."""

    name: str
    modality: Literal["image", "text"]
    architecture: str
    source: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Dimensions:
    """Widths of the vectors: in the joint space, and the head vectors of an image and of a text."""

    joint: int
    image_head: int
    text_head: int


@dataclass(frozen=True, kw_only=True)
class MatchThreshold:
    """The minimum score of a match: a search always finds some nearest image, even if nothing matches.

    It was determined with queries whose image is in the collection, the same queries without their image, and texts
    that describe no picture. It applies to the score alone, whatever the query and the collection.

    Attributes:
        threshold: a score in [0, 1].
        source: description of the data it was determined with.
        figures: how well it separates matches from others, and how that was measured; JSON values.
    """

    threshold: float
    source: str
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold {self.threshold} is not in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class Head:
    """The regressor in `score.onnx`.

    `validation` holds its metrics and how they were obtained; `match` is the match threshold, if there is one.
    """

    kind: str
    calibrated: bool
    validation: dict[str, Any]
    match: MatchThreshold | None = None


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Hex sha256: `image` of the image graph and its preprocessing, `bundle` of everything that affects results."""

    image: str
    bundle: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`; see the module's docstring."""

    schema_version: int
    pack: str
    towers: tuple[Tower, ...]
    dimensions: Dimensions
    image_inputs: tuple[ImageInput, ...]
    text_inputs: tuple[TextInput, ...]
    head: Head
    alignment: dict[str, Any]
    precision: Precision
    recipes: dict[str, str]
    files: dict[str, str]
    parity_error: dict[str, float]
    accuracy_loss: dict[str, Any] = field(default_factory=dict)
    created: str
    fingerprints: Fingerprints

    @classmethod
    def build(cls, **fields: Any) -> Manifest:
        """Create a manifest from its fields, with computed fingerprints."""
        return cls(schema_version=SCHEMA, fingerprints=Fingerprints(image="", bundle=""), **fields).changed()

    def changed(self, **fields: Any) -> Manifest:
        """A copy with the given fields replaced and the fingerprints computed again."""
        draft = replace(self, **fields)
        return replace(draft, fingerprints=draft.compute_fingerprints())

    def compute_fingerprints(self) -> Fingerprints:
        """Compute the fingerprints of this manifest's content."""
        inputs = [{k: v for k, v in asdict(one).items() if v is not None} for one in self.image_inputs]
        whole = asdict(self)
        for excluded in ("files", "created", "parity_error", "accuracy_loss", "fingerprints"):
            del whole[excluded]
        image = {"graph": self.recipes[IMAGE_GRAPH], "inputs": inputs}
        return Fingerprints(image=_digest(image), bundle=_digest(whole))

    @property
    def multilingual(self) -> bool:
        """Whether any text tower supports many languages; if not, queries should be in English."""
        return any(text.multilingual for text in self.text_inputs)

    def write(self, path: Path) -> None:
        """Write the manifest as indented JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read and check a manifest.

        Raises:
            BundleError: the file is missing, is not a manifest, has another schema version, or its fingerprints do not
                match its content.
        """
        rebuild = "write the bundle again with `sceneseek export`"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BundleError(f"no bundle at {path.parent}", missing_bundle_hint(path.parent)) from None
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read ({error})", rebuild) from error
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA:
            raise BundleError(f"{path} has schema version {version!r}, this program reads {SCHEMA}", rebuild)
        try:
            manifest = cls._of_json(raw)
        except (TypeError, KeyError, ValueError) as error:
            raise BundleError(f"{path} is not a manifest ({error})", rebuild) from error
        if manifest.fingerprints != manifest.compute_fingerprints():
            raise BundleError(f"{path} was changed after it was written", rebuild)
        return manifest

    @classmethod
    def _of_json(cls, raw: dict[str, Any]) -> Manifest:
        """Build a manifest without validating types, which the fingerprints cover: pydantic would add 0.15 s."""
        colours = [{name: tuple(one[name]) for name in ("mean", "std", "background")} for one in raw["image_inputs"]]
        match = raw["head"]["match"]
        parts = {
            "towers": tuple(Tower(**tower) for tower in raw["towers"]),
            "dimensions": Dimensions(**raw["dimensions"]),
            "image_inputs": tuple(
                ImageInput(**{**one, **tuples}) for one, tuples in zip(raw["image_inputs"], colours, strict=True)
            ),
            "text_inputs": tuple(TextInput(**text) for text in raw["text_inputs"]),
            "head": Head(**{**raw["head"], "match": match and MatchThreshold(**match)}),
            "fingerprints": Fingerprints(**raw["fingerprints"]),
        }
        return cls(**{**raw, **parts})


def tokenizer_file(tower: str, kind: Literal["json", "npz"] = "json") -> str:
    """The name of a text tower's tokenizer in a bundle."""
    return f"{tower}.tokenizer.{kind}"


def _stat(file: Path) -> list[int]:
    """Values that change with a file's content, barring deliberate manipulation."""
    stat = file.stat()
    return [stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]


def _read_checked(path: Path) -> dict[str, list[Any]]:
    """The sha256 and the `_stat` of each checked file, by name; empty if there is no valid cache."""
    try:
        checked = json.loads((path / CHECKED).read_bytes())
    except (OSError, ValueError):
        return {}
    return checked if isinstance(checked, dict) else {}


def _digest(document: object) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files have been checked against its manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path, *, trust: bool = True) -> Bundle:
        """Open a bundle and check the sha256 of every file (about 0.1 s for 100 MB).

        Files whose size, inode and times are unchanged since the last check are not read again. They are recorded in
        the bundle's file `CHECKED`, if the directory is writable.

        Args:
            path: directory of the bundle.
            trust: False reads every file.

        Raises:
            BundleError: the directory, the manifest or a file is missing, or a file was changed.
        """
        manifest = Manifest.read(path / MANIFEST)
        rebuild = "write the bundle again with `sceneseek export`"
        before = _read_checked(path) if trust else {}
        now: dict[str, list[Any]] = {}
        settled = (time.time() - SETTLED) * 1e9
        for name, expected in manifest.files.items():
            file = path / name
            try:
                now[name] = [expected, *_stat(file)]
                if before.get(name) != now[name] and sha256_of(file) != expected:
                    raise BundleError(f"{file} is not the file that was exported (its sha256 differs)", rebuild)
            except (FileNotFoundError, IsADirectoryError):
                raise BundleError(f"{file} is missing from the bundle", rebuild) from None
        now = {name: seen for name, seen in now.items() if seen[-1] < settled}
        if now != before:
            with contextlib.suppress(OSError):  # a read-only bundle is checked each time
                write_atomic(path / CHECKED, json.dumps(now).encode())
        return cls(path, manifest)

    @property
    def image_graph(self) -> Path:
        """`image.onnx`: pixels to joint and head vectors."""
        return self.path / IMAGE_GRAPH

    @property
    def text_graph(self) -> Path:
        """`text.onnx`: token ids to joint and head vectors."""
        return self.path / TEXT_GRAPH

    @property
    def score_graph(self) -> Path:
        """`score.onnx`: candidates to scores."""
        return self.path / SCORE_GRAPH

    def tokenizer(self, spec: TextInput) -> Path:
        """The tokenizer file of a text tower."""
        return self.path / spec.tokenizer
