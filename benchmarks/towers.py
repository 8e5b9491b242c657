"""The hub's towers at their true sizes: eager torch beside fp32 beside int8, and what a pack adds to its towers.

    python -m benchmarks.towers

The weights are drawn at random (`benchmarks.checkpoints`), so nothing is downloaded: how fast a network is does not
depend on them, and how accurate int8 is, is not asked here (docs/explanation/precision.md). The towers are loaded,
exported and converted as `sceneseek export` does it and run in sessions as the product opens them; eager torch is the
very model of transformers. All ways take turns in one run.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import onnx
import torch

from benchmarks import checkpoints
from benchmarks.machine import describe, others
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.timing import measure
from sceneseek.alignment import Alignment, Hubness, LearnedBlock, Typical, normalise
from sceneseek.files import write_atomic
from sceneseek.heads import Calibration, FirstLayer, MlpHead
from sceneseek.packs import ImageTowerSpec, TextTowerSpec
from sceneseek.runtime import open_session
from sceneseek.vectors import Floats
from sceneseek_export.compose import score_graph, text_graph
from sceneseek_export.precision import dynamic_int8, static_int8
from sceneseek_export.towers import ImageTower, TextTower, load_image_tower, load_text_tower

Feed = dict[str, npt.NDArray[Any]]

_IMAGES, _TOKENS, _SHORTLIST = 8, 16, 100
# As a learned space is (`sceneseek_training.recipe`): dimensions of its blocks, and what a head makes of them.
_BLOCKS, _BANK, _TYPICAL, _HIDDEN = (256, 128), 1_000, 64, 64


@dataclass(frozen=True)
class Case:
    """A tower: how its checkpoint is written, and the goal for int8 beside fp32."""

    name: str
    architecture: str
    write: Callable[..., Path]
    goal: float | None = None


CASES = (
    Case("ResNet50", "resnet", checkpoints.resnet, 2.5),
    Case("BERT base", "bert", checkpoints.bert, 3.0),
    Case("CLIP ViT-B/32 images", "clip-image", checkpoints.clip),
    Case("CLIP ViT-B/32 texts", "clip-text", checkpoints.clip),
)


class Bench:
    """One run.

    Args:
        threads: of each way.
        rounds: how often each way is measured.
        seconds: how long a way runs in a round, at least.
        true_size: whether the towers have their true sizes; small ones show that the benchmark works.
    """

    def __init__(self, threads: int, rounds: int, seconds: float, true_size: bool = True) -> None:
        self._threads, self._rounds, self._seconds, self._true_size = threads, rounds, seconds, true_size

    def tower(self, case: Case, home: Path) -> tuple[Section, ImageTower | TextTower]:
        """A tower in its three ways."""
        tower = loaded(case, home, self._true_size)
        feed = images(tower) if isinstance(tower, ImageTower) else one_text(tower)
        fp32 = tower.to_onnx()
        int8 = static_int8(fp32, [feed]) if isinstance(tower, ImageTower) else dynamic_int8(fp32)
        ways = {
            "torch": eager(tower, feed),
            "fp32": self.session(home, fp32, feed),
            "int8": self.session(home, int8, feed),
        }
        count = len(next(iter(feed.values())))
        found, notes = self.rates(case.name, ways, count)
        notes.insert(0, f"graphs in megabytes: fp32 {fp32.ByteSize() / 1e6:.0f}, int8 {int8.ByteSize() / 1e6:.0f}")
        images_ = isinstance(tower, ImageTower)
        title = f"{case.name}, {f'batch {count}' if images_ else f'one text of {_TOKENS} tokens'}"
        unit = "images/s" if images_ else "texts/s"
        goal = None if case.goal is None else Goal("ratio", case.goal, "least")
        figures = [
            Figure("eager torch", unit, found["torch"], "fp32", found["fp32"]),
            Figure("fp32", unit, found["fp32"]),
            Figure("int8", unit, found["int8"], "fp32", found["fp32"], goal),
            Figure("int8 beside eager torch", unit, found["int8"], "eager torch", found["torch"]),
        ]
        return Section(title, figures, notes), tower

    def pack(self, tower: TextTower, home: Path) -> Section:
        """A query's two graphs of `resnet50-bert` beside BERT's alone."""
        space, head = drawn_space(tower.width)
        bare, feed = tower.to_onnx(), one_text(tower)
        whole = text_graph([tower], {tower.spec.name: bare}, space, head)
        encode = self.session(home, whole, {f"{tower.spec.name}.{name}": array for name, array in feed.items()})
        draw = np.random.default_rng(1)
        candidates: Feed = {
            "similarity": draw.uniform(0, 1, _SHORTLIST).astype(np.float32),
            "image_joint": normalise(draw.standard_normal((_SHORTLIST, space.joint), np.float32)),
            "text_joint": draw.standard_normal(space.joint, np.float32),
            "text_head": draw.standard_normal(head.text_width, np.float32),
        }
        score = self.session(home, score_graph(head, space.joint), candidates, threads=1)

        def query() -> None:
            encode()
            score()

        ways = {"bare": self.session(home, bare, feed), "query": query}
        found, notes = self.rates("resnet50-bert", ways, 1)
        milliseconds = {way: [1e3 / rate for rate in rates] for way, rates in found.items()}
        figure = Figure(
            "text graph and score graph", "ms", milliseconds["query"], "BERT's graph alone", milliseconds["bare"],
            Goal("ratio", 1.1),
        )  # fmt: skip
        return Section(f"resnet50-bert, one query of {_TOKENS} tokens, {_SHORTLIST} candidates", [figure], notes)

    def session(self, home: Path, model: onnx.ModelProto, feed: Feed, threads: int | None = None) -> Callable[[], None]:
        """Runs the model on the feed."""
        path = home / f"{len(list(home.iterdir()))}.onnx"
        path.write_bytes(model.SerializeToString())
        session = open_session(path, "cpu", self._threads if threads is None else threads)

        def run() -> None:
            session.run(feed)

        return run

    def rates(
        self, name: str, ways: dict[str, Callable[[], None]], count: int
    ) -> tuple[dict[str, list[float]], list[str]]:
        """Items a second of each way, one figure a round, and notes on the machine."""
        notes: list[str] = []
        timed = {way: rate(run, count, self._seconds) for way, run in ways.items()}
        with others(notes.append):
            found = measure(timed, self._rounds, lambda what: print(f"{name}: {what}", file=sys.stderr))
        return found, notes


def loaded(case: Case, home: Path, true_size: bool) -> ImageTower | TextTower:
    """The tower of a checkpoint that is written for it."""
    source = f"dir:{case.write(home / case.architecture, true_size=true_size)}"
    if case.architecture in ("resnet", "clip-image"):
        return load_image_tower(ImageTowerSpec("tower", case.architecture, source))
    return load_text_tower(TextTowerSpec("tower", case.architecture, source))


def images(tower: ImageTower) -> Feed:
    """A batch of noise."""
    shape = (_IMAGES, 3, tower.input.height, tower.input.width)
    return {"pixels": np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}


def one_text(tower: TextTower) -> Feed:
    """One text of tokens drawn at random, as far as the tower reads them."""
    ids = np.random.default_rng(0).integers(5, 400, (1, _TOKENS))
    ids[0, -1] = tower.tokenize("word")[-1]
    offered = {"input_ids": ids, "attention_mask": np.ones((1, _TOKENS), np.int64)}
    return {node.name: offered[node.name] for node in tower.to_onnx().graph.input}


def eager(tower: ImageTower | TextTower, feed: Feed) -> Callable[[], None]:
    """The model of transformers, on the same arrays."""

    def run() -> None:
        if isinstance(tower, ImageTower):
            tower.reference(feed["pixels"])
        else:
            tower.reference(feed["input_ids"], feed.get("attention_mask", np.ones_like(feed["input_ids"])))

    return run


def rate(run: Callable[[], None], count: int, seconds: float) -> Callable[[], float]:
    """Items a second over as many runs as fill the time; the first, after another way had the caches, is untimed."""

    def measured() -> float:
        run()
        runs, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not runs:
            run()
            runs += 1
        return runs * count / elapsed

    return measured


def drawn_space(text: int) -> tuple[Alignment, MlpHead]:
    """A learned space and a head of the sizes that training gives, their numbers drawn at random."""
    draw = np.random.default_rng(0)

    def numbers(*shape: int) -> Floats:
        return draw.standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.5)

    blocks = tuple(
        LearnedBlock(("image",), numbers(d, 1), numbers(d), numbers(d, text), numbers(d), 1 / len(_BLOCKS))
        for d in _BLOCKS
    )
    typical = Typical(tuple(numbers(d) for d in _BLOCKS), tuple(numbers(_TYPICAL, d) for d in _BLOCKS))
    bank = Hubness(numbers(_BANK, sum(_BLOCKS)), neighbours=10, weight=0.2)
    space = Alignment("drawn", blocks, None, Calibration(8, -3, "drawn"), hubness=bank, typical=typical)
    first = FirstLayer(
        {"product": numbers(_HIDDEN, space.joint), "spread": numbers(_HIDDEN, space.spread)}, numbers(_HIDDEN)
    )
    return space, MlpHead(space.calibration, first, ((numbers(1, _HIDDEN), numbers(1)),))


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=7, show_default=True, help="Rounds of each tower.")
@click.option("--seconds", type=float, default=1.0, show_default=True, help="How long a way runs in a round.")
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Threads of each way.")
@click.option("--only", multiple=True, metavar="WORD", help="Only towers whose name holds the word; may be repeated.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every round's figures there too.")
def main(rounds: int, seconds: float, threads: int, only: tuple[str, ...], json_file: Path | None) -> None:
    """Images and texts a second in eager torch, in float32 and in 8 bits, side by side."""
    chosen = [case for case in CASES if not only or any(word.casefold() in case.name.casefold() for word in only)]
    if not chosen:
        raise click.UsageError("no tower's name holds such a word")
    torch.set_num_threads(threads)
    bench = Bench(threads, rounds, seconds)
    report = Report({**describe(), "beside": f"torch {torch.__version__}, {threads} threads each"})
    for case in chosen:
        with tempfile.TemporaryDirectory(prefix="sceneseek-bench-") as home:
            section, tower = bench.tower(case, Path(home))
            report.sections.append(section)
            if isinstance(tower, TextTower) and case.architecture == "bert":
                report.sections.append(bench.pack(tower, Path(home)))
    for line in report.lines():
        click.echo(line)
    if json_file is not None:
        write_atomic(json_file, json.dumps(report.to_json(), indent=2).encode("utf-8"))


if __name__ == "__main__":
    main()
