"""float32 beside 8 bits and eager torch, network by network, in one run: `python -m benchmarks.precision`.

The networks have their true sizes and random weights, made from their configurations, so nothing is downloaded;
how fast they are does not depend on the weights, how accurate they are is not asked here (docs/precision.md).
They are converted as export converts towers, and run in sessions as the product opens them.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import numpy.typing as npt

from benchmarks.machine import describe, others
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.timing import measure
from sceneseek.files import write_atomic
from sceneseek.runtime import open_session

if TYPE_CHECKING:
    import onnx
    from torch import nn

Feed = dict[str, npt.NDArray[Any]]

_OPSET = 17
_SIDE, _IMAGES, _TOKENS = 224, 8, 16
_VOCABULARY = 20_000  # token ids are drawn below it, which is within both vocabularies


@dataclass(frozen=True, slots=True)
class Network:
    """What to measure.

    Attributes:
        name: as the report calls it.
        unit: of what is counted: images or texts a second.
        make: the torch module, its weights drawn at random; in evaluation mode, from `feed`'s arrays to one tensor.
        feed: one batch.
        goal: how many times as fast as float32 8 bits should be; None where no goal was set.
    """

    name: str
    unit: str
    make: Callable[[], nn.Module]
    feed: Feed
    goal: float | None

    @property
    def count(self) -> int:
        """Items in a batch."""
        return len(next(iter(self.feed.values())))


def networks() -> list[Network]:
    """The towers of the packs that come from a model hub."""
    draw = np.random.default_rng(0)
    images: Feed = {"pixels": draw.standard_normal((_IMAGES, 3, _SIDE, _SIDE), dtype=np.float32)}
    text: Feed = {
        "input_ids": draw.integers(1_000, _VOCABULARY, (1, _TOKENS)),
        "attention_mask": np.ones((1, _TOKENS), np.int64),
    }
    return [
        Network(f"ResNet50, batch {_IMAGES}", "images/s", _resnet50, images, 2.5),
        Network(f"BERT base, one text of {_TOKENS} tokens", "texts/s", _bert, text, 3.0),
        Network(f"CLIP ViT-B/32 images, batch {_IMAGES}", "images/s", _clip_vision, images, None),
        Network(f"CLIP ViT-B/32 text, one of {_TOKENS} tokens", "texts/s", _clip_text, text, None),
    ]


def compare(network: Network, threads: int, rounds: int, seconds: float, tell: Callable[[str], None]) -> Section:
    """One network in its three ways, in turns.

    Args:
        network: which.
        threads: of each way.
        rounds: how often each way is measured.
        seconds: how long a way runs in a round, at least.
        tell: told what happens.
    """
    import torch  # noqa: PLC0415 - of the extra `export`

    from export.precision import dynamic_int8, static_int8  # noqa: PLC0415 - of the extra `export`

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    tell(f"{network.name}: making its graphs")
    module = network.make()
    fp32 = _to_onnx(module, network.feed)
    int8 = static_int8(fp32, [network.feed]) if "pixels" in network.feed else dynamic_int8(fp32)
    notes: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sceneseek-bench-") as folder:
        parts = {"torch": _eager(module, network.feed)}
        for name, model in (("fp32", fp32), ("int8", int8)):
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(model.SerializeToString())
            parts[name] = _session(path, network.feed, threads)
        timed = {name: _rate(run, network.count, seconds) for name, run in parts.items()}
        for run in parts.values():
            run()
        with others(notes.append):
            found = measure(timed, rounds, lambda what: tell(f"{network.name}: {what}"))
    goal = None if network.goal is None else Goal("ratio", network.goal, "least")
    return Section(
        network.name,
        [
            Figure("eager torch fp32", network.unit, found["torch"], "fp32", found["fp32"]),
            Figure("fp32", network.unit, found["fp32"]),
            Figure("int8", network.unit, found["int8"], "fp32", found["fp32"], goal),
            Figure("int8 beside torch", network.unit, found["int8"], "eager torch", found["torch"]),
        ],
        [f"weights in megabytes: fp32 {fp32.ByteSize() / 1e6:.0f}, int8 {int8.ByteSize() / 1e6:.0f}", *notes],
    )


def _rate(run: Callable[[], None], count: int, seconds: float) -> Callable[[], float]:
    """Items a second over as many runs as fill the time; the first, after another way had the caches, is untimed."""

    def rate() -> float:
        run()
        runs, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not runs:
            run()
            runs += 1
        return runs * count / elapsed

    return rate


def _session(path: Path, feed: Feed, threads: int) -> Callable[[], None]:
    session = open_session(path, "cpu", threads)
    return lambda: session.run(None, feed)


def _eager(module: nn.Module, feed: Feed) -> Callable[[], None]:
    import torch  # noqa: PLC0415

    given = [torch.from_numpy(array) for array in feed.values()]

    def run() -> None:
        with torch.inference_mode():
            module(*given)

    return run


def _to_onnx(module: nn.Module, feed: Feed) -> onnx.ModelProto:
    import onnx  # noqa: PLC0415
    import torch  # noqa: PLC0415

    content: Any = io.BytesIO()
    # Two rows, since a traced batch of one could be folded into the graph as a constant.
    example = tuple(torch.from_numpy(np.repeat(array[:1], 2, axis=0)) for array in feed.values())
    axes = {name: {0: "N", 1: "L"} if array.ndim == 2 else {0: "N"} for name, array in feed.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as export does it: the tracing exporter calls itself legacy
        torch.onnx.export(
            module,
            example,
            content,
            input_names=list(feed),
            output_names=["y"],
            dynamic_axes={**axes, "y": {0: "N"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(content.getvalue())


def _tower(model: Any, answer: Callable[..., Any]) -> nn.Module:
    """A module whose call is `answer` of the model and the arguments."""
    from torch import nn  # noqa: PLC0415

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: Any) -> Any:
            return answer(self.model, *given)

    return Tower().eval()


def _resnet50() -> nn.Module:
    transformers = _transformers()
    model = transformers.ResNetModel(transformers.ResNetConfig())
    return _tower(model, lambda model, pixels: model(pixels).pooler_output.flatten(1))


def _bert() -> nn.Module:
    transformers = _transformers()
    model = transformers.BertModel(transformers.BertConfig(attn_implementation="eager"))
    return _tower(model, lambda model, ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1))


def _clip_vision() -> nn.Module:
    transformers = _transformers()
    config = transformers.CLIPVisionConfig(patch_size=32, projection_dim=512, attn_implementation="eager")
    model = transformers.CLIPVisionModelWithProjection(config)
    return _tower(model, lambda model, pixels: model(pixel_values=pixels).image_embeds)


def _clip_text() -> nn.Module:
    transformers = _transformers()
    config = transformers.CLIPTextConfig(projection_dim=512, attn_implementation="eager")
    model = transformers.CLIPTextModelWithProjection(config)
    return _tower(model, lambda model, ids, mask: model(input_ids=ids, attention_mask=mask).text_embeds)


def _transformers() -> Any:
    import transformers  # noqa: PLC0415 - takes seconds, and its classes carry no types

    return transformers


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=7, show_default=True, help="Rounds of each network.")
@click.option("--seconds", type=float, default=1.0, show_default=True, help="How long a way runs in a round.")
@click.option("--threads", type=click.IntRange(1, 256), default=2, show_default=True, help="Threads of each way.")
@click.option("--only", multiple=True, metavar="WORD", help="Only networks whose name holds the word; may be repeated.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every round's figures there too.")
def main(rounds: int, seconds: float, threads: int, only: tuple[str, ...], json_file: Path | None) -> None:
    """Images and texts a second in float32, in 8 bits and in eager torch, side by side."""
    chosen = [n for n in networks() if not only or any(word.casefold() in n.name.casefold() for word in only)]
    if not chosen:
        raise click.UsageError("no network's name holds such a word")
    import torch  # noqa: PLC0415 - of the extra `export`

    report = Report({**describe(), "beside": f"torch {torch.__version__}, {threads} threads each"})
    for network in chosen:
        report.sections.append(compare(network, threads, rounds, seconds, lambda what: click.echo(what, err=True)))
    for line in report.lines():
        click.echo(line)
    if json_file is not None:
        write_atomic(json_file, json.dumps(report.to_json(), indent=2).encode("utf-8"))


if __name__ == "__main__":
    main()
