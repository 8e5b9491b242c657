"""A bundle: the directory that `export` writes and that `indexer` and `server` read, and its manifest.

`manifest.json` says what a bundle is, in one typed document: the towers and their hashes, how inputs are prepared, the
dimensions, the head and its validation, the sha256 of every file, and that of what each file was made from (its recipe:
weights, alignment, head, exporter). Two fingerprints identify it: `image` (the image graph's recipe and its
preprocessing) decides which collections the bundle can search, `bundle` (everything that changes an answer) names it.
They are hashes of what goes in, not of what comes out: neither the files' own bytes nor the creation time nor what was
measured is part of them, so the same input gives the same fingerprints on every machine.
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
# What each file looked like when its sha256 was checked.
CHECKED = ".checked.json"
# Seconds since its last change from which on a file counts as unchanged if its times are: some file systems count in
# steps of 2.
SETTLED = 2.0

Fit = Literal["squash", "letterbox", "crop"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
Precision = Literal["fp32", "fp16", "int8"]
Colour: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """One pixel tensor of `image.onnx`: uint8 (N, height, width, 3), and how a picture becomes it.

    `fit` is how a picture of another aspect ratio is brought to the target: ``squash`` ignores the
    ratio, ``letterbox`` pads with `background`, ``crop`` takes the centre: the largest part of the target's ratio,
    or, with `shortest_edge`, height by width pixels of the picture resized until its shortest edge has so many
    (its longest int(shortest_edge * longest / shortest), the corner rounded down). `fit_transparent` is the same
    for pictures with transparent parts, which are cut-outs rather than views: they lie on `background`.
    `mean` and `std` are applied inside the graph, on the 0..255 scale.
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
            raise ValueError(f"no picture is {self.height} by {self.width} pixels")
        if self.shortest_edge is not None and self.shortest_edge < max(self.height, self.width):
            raise ValueError("shortest_edge is less than what is cut out of it")


@dataclass(frozen=True, kw_only=True)
class TextInput:
    """The token ids and mask of one text tower in `text.onnx`: int64 (N, L), L at most `max_tokens`.

    The graph's inputs are ``NAME.input_ids`` and, where the tower reads one, ``NAME.attention_mask``. `padding`
    is how far texts are padded: to a ``bucket`` over the longest of the batch, or always to ``max_tokens``, for a
    tower that was trained so and reads no mask. `tokenizer` is the name of a file of the `tokenizers` library
    (``.json``) or of a `sceneseek.unigram.Unigram` (``.npz``), `prefix` is put before each text. With `articles` a
    short text gets an article and its likeliest case, see `sceneseek.encoders.Tokenizer.as_read`. `multilingual` says
    whether the tower reads many languages.
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
    """Where a pretrained encoder came from; `sha256` is that of its weights file."""

    name: str
    modality: Literal["image", "text"]
    architecture: str
    source: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Dimensions:
    """Widths of the vectors: the joint space, and the head's share of an image and of a text."""

    joint: int
    image_head: int
    text_head: int


@dataclass(frozen=True, kw_only=True)
class MatchThreshold:
    """The least score of a result that matches, since a search always finds some nearest image.

    It was found on queries whose image is in a collection beside the same queries without it, and beside texts that
    describe no picture. It knows of scores only: neither of the query nor of the collection.

    Attributes:
        threshold: a score in [0, 1].
        source: what it was found on, in words.
        figures: how well it tells one from the other, and how that was measured; JSON values.
    """

    threshold: float
    source: str
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold {self.threshold} is no score")


@dataclass(frozen=True, kw_only=True)
class Head:
    """The regressor in `score.onnx`.

    `validation` holds its figures and how they were obtained; `match`, if one was found, the score from which a
    result counts as a match.
    """

    kind: str
    calibrated: bool
    validation: dict[str, Any]
    match: MatchThreshold | None = None


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Hex sha256: `image` of the image graph and its preprocessing, `bundle` of all that changes an answer."""

    image: str
    bundle: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole document; see the module's docstring."""

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
        """A manifest of these fields with its fingerprints computed."""
        return cls(schema_version=SCHEMA, fingerprints=Fingerprints(image="", bundle=""), **fields).changed()

    def changed(self, **fields: Any) -> Manifest:
        """The same with other fields, and its fingerprints computed."""
        draft = replace(self, **fields)
        return replace(draft, fingerprints=draft.compute_fingerprints())

    def compute_fingerprints(self) -> Fingerprints:
        """The fingerprints that this manifest's content implies."""
        inputs = [{k: v for k, v in asdict(one).items() if v is not None} for one in self.image_inputs]
        whole = asdict(self)
        for about in ("files", "created", "parity_error", "accuracy_loss", "fingerprints"):
            del whole[about]
        image = {"graph": self.recipes[IMAGE_GRAPH], "inputs": inputs}
        return Fingerprints(image=_digest(image), bundle=_digest(whole))

    @property
    def multilingual(self) -> bool:
        """Whether queries may be in many languages, because some text tower reads them; else English is advised."""
        return any(text.multilingual for text in self.text_inputs)

    def write(self, path: Path) -> None:
        """Write the document as readable JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read and check a document.

        Raises:
            BundleError: it is missing, is not a manifest, has another schema version, or its
                fingerprints are not those of its content.
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
        """Of a document, whose types the fingerprints vouch for: pydantic would take 0.15 s of each command."""
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
    """What changes with a file's content, unless somebody takes pains that it does not."""
    found = file.stat()
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _read_checked(path: Path) -> dict[str, list[Any]]:
    """By name the sha256 and the `_stat` of the files that were checked; empty where that is not known."""
    try:
        found = json.loads((path / CHECKED).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _digest(document: object) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory whose every file has been checked against its manifest."""

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path, *, trust: bool = True) -> Bundle:
        """Open a bundle and check the sha256 of every file (about 0.1 s for 100 MB).

        A file that was checked before and looks as it did then (size, inode, times) is not read again: `CHECKED`, a
        file of the bundle that is written where the directory permits, says how each looked.

        Args:
            path: the directory.
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
            with contextlib.suppress(OSError):  # a bundle that may only be read is checked each time
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
        """The tokenizer of a text tower."""
        return self.path / spec.tokenizer
