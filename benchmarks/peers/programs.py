"""The programs: their requirements, commands for indexing and searching, and their form of the same weights."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from benchmarks.footprint import directory_bytes, memory
from sceneseek_export.bundle import export_bundle
from sceneseek_export.packs import Pack
from sceneseek_export.towers import Towers
from sceneseek_export.trained import find_trained

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
CLIP = "openai/clip-vit-base-patch32"
# The number of merges that rclip's tokenizer reads, and the directory of its model.
_RCLIP_MERGES, _RCLIP_MODEL = 48_894, "ViT-B-32-256-datacomp_s34b_b86k"
_SAMPLE_SECONDS = 0.1
_MB = 1e6

QUERY = "a dog jumping over a log"


@dataclass(frozen=True)
class Program:
    """A program that indexes and searches.

    Attributes:
        name: the name of the program.
        requirements: the pip requirements for indexing and searching.
        version_of: the packages whose versions are reported.
        index: the command line that indexes new and changed photos; ``{scripts}``, ``{weights}``, ``{index}`` and
            ``{photos}`` stand for directories.
        search: the command line of a search, without indexing if the program allows it.
        write_weights: writes its form of a checkpoint into a directory.
        variables: environment variables, with the same placeholders.
        weights_beside_index: whether it expects its weights in the directory of its index.
    """

    name: str
    requirements: Sequence[str]
    version_of: Sequence[str]
    index: Sequence[str]
    search: Sequence[str]
    write_weights: Callable[[Path, Pack, Towers, Path], None]
    variables: Mapping[str, str] = field(default_factory=dict)
    weights_beside_index: bool = False


@dataclass(frozen=True)
class Installed:
    """A program in its own virtual environment.

    Attributes:
        program: the program.
        home: the directory of the environment, the weights and an index of each kind.
    """

    program: Program
    home: Path

    @property
    def scripts(self) -> Path:
        """The directory of installed commands."""
        return self.home / "venv/bin"

    @property
    def weights(self) -> Path:
        """The weights in the program's form."""
        return self.home / "weights"

    def install(self) -> None:
        """Create the environment, unless it exists."""
        if (self.scripts / "ready").exists():
            return
        shutil.rmtree(self.home / "venv", ignore_errors=True)
        venv.create(self.home / "venv", with_pip=True)
        pip = str(self.scripts / "pip")
        if "torch" in self.program.version_of:
            subprocess.run([ROOT / "scripts/install-torch", "cpu", pip], check=True)
        subprocess.run([pip, "install", "-qq", *self.program.requirements], check=True)
        (self.scripts / "ready").touch()

    def write_weights(self, checkpoint: Path, pack: Pack, towers: Towers) -> None:
        """Write the weights atomically."""
        partial = self.home / "weights.part"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self.program.write_weights(checkpoint, pack, towers, partial)
        partial.rename(self.weights)

    def versions(self) -> str:
        """The versions of the packages to report."""
        packages = [*self.program.version_of]
        code = f"import importlib.metadata as m; print(', '.join(f'{{n}} {{m.version(n)}}' for n in {packages}))"
        return subprocess.check_output([self.scripts / "python", "-c", code], text=True).strip()

    def packages(self) -> int:
        """The number of packages in the environment, without pip and setuptools."""
        code = "import importlib.metadata as m; print(len({d.name for d in m.distributions()} - {'pip', 'setuptools'}))"
        return int(subprocess.check_output([self.scripts / "python", "-c", code], text=True))

    def megabytes(self) -> float:
        """The disk space of the packages."""
        return directory_bytes(self.home / "venv/lib") / _MB

    def fresh(self, kind: str) -> Path:
        """Create an empty directory for an index."""
        index = self.home / kind
        shutil.rmtree(index, ignore_errors=True)
        index.mkdir(parents=True)
        if self.program.weights_beside_index:
            for file in self.weights.iterdir():
                (index / file.name).symlink_to(file)
        return index

    def index(self, index: Path, photos: Path) -> float:
        """Index new and changed photos; return the seconds."""
        start = time.perf_counter()
        self._wait(self._start(self.program.index, index, photos))
        return time.perf_counter() - start

    def search(self, index: Path, photos: Path) -> float:
        """Search in a new process; return the seconds."""
        start = time.perf_counter()
        self._wait(self._start(self.program.search, index, photos))
        return time.perf_counter() - start

    def peak(self, index: Path, photos: Path) -> float:
        """Index; return the peak memory in MB by sampling, with shared pages counted once."""
        peak, process = 0.0, self._start(self.program.index, index, photos)
        while process.poll() is None:
            with contextlib.suppress(OSError, KeyError):  # a process has exited
                peak = max(peak, memory(process.pid).pss)
            time.sleep(_SAMPLE_SECONDS)
        self._wait(process)
        return peak

    def _start(self, command: Sequence[str], index: Path, photos: Path) -> subprocess.Popen[bytes]:
        places = {"scripts": self.scripts, "weights": self.weights, "index": index, "photos": photos}
        variables = {name: value.format(**places) for name, value in self.program.variables.items()}
        with (index / "output").open("wb") as output:
            return subprocess.Popen(
                [word.format(**places) for word in command],
                cwd=photos,
                env={**os.environ, **variables, "HF_HUB_OFFLINE": "1"},
                stdout=output,
                stderr=output,
            )

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            sys.exit(f"{self.program.name} failed: {' '.join(map(str, process.args))}")  # type: ignore[arg-type]


def _sceneseek_weights(_: Path, pack: Pack, towers: Towers, out: Path) -> None:
    export_bundle(pack, find_trained(pack, towers, None, None), out / "bundle", towers=towers)


def _rclip_weights(_: Path, __: Pack, towers: Towers, out: Path) -> None:
    (image,), (text,) = towers.images, towers.texts
    folder = out / _RCLIP_MODEL
    folder.mkdir()
    onnx.save(_renamed(image.to_onnx(), "pixels", "features"), folder / "visual.onnx")
    onnx.save(_renamed(text.to_onnx(), "input_ids", "text"), folder / "textual.onnx")
    # Arbitrary merges: the time does not depend on them.
    merges = (" ".join(pair) for pair in itertools.product(map(chr, range(0x4E00, 0x4F00)), repeat=2))
    (out / "tokenizer").mkdir()
    with gzip.open(out / "tokenizer/bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(["#version", *itertools.islice(merges, _RCLIP_MERGES), ""]))


def _renamed(model: onnx.ModelProto, old_input: str, old_output: str) -> onnx.ModelProto:
    """Rename the input and output to the names that rclip expects."""
    names = {old_input: "input", old_output: "output"}
    for value in (*model.graph.input, *model.graph.output):
        value.name = names[value.name]
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


def _fastembed_weights(checkpoint: Path, _: Pack, towers: Towers, out: Path) -> None:
    (image,), (text,) = towers.images, towers.texts
    for part, tower in (("vision", image), ("text", text)):
        (out / part).mkdir()
        for file in checkpoint.glob("*.json"):
            shutil.copy(file, out / part)
        onnx.save(tower.to_onnx(), out / part / "model.onnx")
    settings = out / "vision/preprocessor_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    side = content["size"]
    content |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}, "do_rescale": True}
    content |= {"rescale_factor": 1 / 255, "image_processor_type": "CLIPImageProcessor"}
    settings.write_text(json.dumps(content), encoding="utf-8")


def _transformers_weights(checkpoint: Path, _: Pack, __: Towers, out: Path) -> None:
    shutil.copytree(checkpoint, out, dirs_exist_ok=True)


_SCENESEEK = ("--bundle", "{weights}/bundle", "--index", "file:{index}/index")
_PLACES = ("{weights}", "{index}", "{photos}")

PROGRAMS = (
    Program(
        "sceneseek",
        [f"{ROOT}[laptop]"],
        ["sceneseek", "onnxruntime"],
        ["{scripts}/sceneseek", "index", "{photos}", *_SCENESEEK],
        ["{scripts}/sceneseek", "search", QUERY, *_SCENESEEK],
        _sceneseek_weights,
    ),
    Program(
        "rclip",
        ["rclip"],
        ["rclip", "onnxruntime"],
        # It has no command that only indexes: each search indexes new images first, unless --no-indexing is given.
        ["{scripts}/rclip", QUERY],
        ["{scripts}/rclip", "--no-indexing", QUERY],
        _rclip_weights,
        {"RCLIP_DATADIR": "{index}"},
        weights_beside_index=True,
    ),
    Program(
        "fastembed",
        ["fastembed", "qdrant-client"],
        ["fastembed", "qdrant-client", "onnxruntime"],
        ["{scripts}/python", f"{HERE}/with_fastembed.py", "index", *_PLACES],
        ["{scripts}/python", f"{HERE}/with_fastembed.py", "search", *_PLACES, QUERY],
        _fastembed_weights,
    ),
    Program(
        "sentence-transformers",
        ["sentence-transformers", "pillow"],
        ["sentence-transformers", "torch"],
        ["{scripts}/python", f"{HERE}/with_sentence_transformers.py", "index", *_PLACES],
        ["{scripts}/python", f"{HERE}/with_sentence_transformers.py", "search", *_PLACES, QUERY],
        _transformers_weights,
    ),
)
