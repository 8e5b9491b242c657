"""Towers in a lower precision: int8 quantization and float16, with pictures of the user's to calibrate and compare on.

A converted graph has the same inputs and outputs, in float32. Only towers are converted: what is composed around them
(joint space, class names, the head's shares) stays float32, since it costs little and its numbers decide the order of
results.

- ``half``: float16 weights and arithmetic, for GPUs; a CPU computes most of it in float32 after a cast.
- ``static_int8``: for images. Weights are int8 with a scale per channel; activations are uint8 with a range that was
  seen on calibration images. The graph says so with QuantizeLinear and DequantizeLinear (QDQ), which every runtime
  understands. Normalisation, softmax, activations other than ReLU and clips, products of two activations (attention)
  and the outputs of matrix products stay float32.
- ``dynamic_int8``: for texts. Weights as above; the range of an activation is found at each run, so the vector of a
  text depends a little on the texts that it is encoded with (docs/explanation/precision.md has the figures).

Every result is in ONNX's default domain at the tower's opset, and the same input gives the same bytes.
`accuracy_loss` measures what a precision costs.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from sceneseek.bundle import Precision
from sceneseek.captions import read_captions, read_split
from sceneseek.errors import ExportError, ImageError
from sceneseek.picture import decode, extensions
from sceneseek.preprocess import enough_pixels, prepare
from sceneseek.sample_queries import QUERIES
from sceneseek_evaluation.pairs import searchable
from sceneseek_export.accuracy_loss import AccuracyData
from sceneseek_export.subgraphs import strip
from sceneseek_export.towers import ImageTower, Towers

# Images that the study of docs/explanation/precision.md calibrates on; 32 did nearly as well, 300 no better.
CALIBRATION_IMAGES = 128

Feed = Mapping[str, npt.NDArray[Any]]

_PRODUCTS = ("MatMul", "Gemm")
# Relu and Clip so that a convolution's range is that after them; quantised before them, most of it is cut off.
_STATIC = ("Conv", "Relu", "Clip", "Add", "MaxPool", *_PRODUCTS)
# In a transformer Add is the residual stream, whose few large values would leave the others no resolution.
_STATIC_TRANSFORMER = ("Conv", *_PRODUCTS)
_LARGEST_HALF = 1e4  # masks add -3.4e38, which would become -inf, and 0 * -inf is no number


def half(tower: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with float16 inside and float32 inputs and outputs.

    Raises:
        ExportError: the result leaves ONNX's default domain.
    """
    with tempfile.TemporaryDirectory(prefix="sceneseek-fp16-") as folder:
        model = _clean(tower, Path(folder) / "clean.onnx")
    return _plain(convert_float_to_float16(model, max_finite_val=_LARGEST_HALF, keep_io_types=True), tower)


def static_int8(tower: onnx.ModelProto, feeds: Iterable[Feed]) -> onnx.ModelProto:
    """The graph with 8-bit weights and activations, the ranges of these taken from `feeds`.

    Args:
        tower: a convolutional network or a vision transformer.
        feeds: what the graph takes, in batches (a few images each), at least one; read once.

    Raises:
        ExportError: nothing can be quantised, or the result leaves ONNX's default domain.
    """
    with tempfile.TemporaryDirectory(prefix="sceneseek-int8-") as folder:
        clean, result = Path(folder) / "clean.onnx", Path(folder) / "int8.onnx"
        model = _clean(tower, clean)
        quantize_static(
            clean,
            result,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_STATIC_TRANSFORMER if _is_transformer(model) else _STATIC),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_products_of_activations(model),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"OpTypesToExcludeOutputQuantization": list(_PRODUCTS)},
        )
        converted = onnx.load(result)
    return _changed(_plain(converted, tower), "QuantizeLinear")


def dynamic_int8(tower: onnx.ModelProto) -> onnx.ModelProto:
    """A text transformer with 8-bit weights in its matrix products, whose other side is quantised at each run.

    Raises:
        ExportError: it has no matrix product with weights, or leaves ONNX's default domain.
    """
    with tempfile.TemporaryDirectory(prefix="sceneseek-int8-") as folder:
        clean, result = Path(folder) / "clean.onnx", Path(folder) / "int8.onnx"
        _clean(tower, clean)
        quantize_dynamic(
            clean,
            result,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        converted = onnx.load(result)
    return _changed(_plain(converted, tower), "DynamicQuantizeLinear")


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Batches as the quantiser asks for them."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _clean(tower: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Constants folded, batch normalisation and padding taken into convolutions, shapes written down."""
    named = copy.deepcopy(tower)
    for i, node in enumerate(named.graph.node):
        node.name = node.name or f"{node.op_type}.{i}"  # nodes are left out by name
    # By a file: of a model in memory it takes the large weights out, and then looks for them in a file.
    given = path.with_name("given.onnx")
    onnx.save(named, given)
    quant_pre_process(given, path, skip_symbolic_shape=True)
    given.unlink()
    return onnx.load(path)


def _is_transformer(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "Softmax" for node in model.graph.node)


def _products_of_activations(model: onnx.ModelProto) -> list[str]:
    """The names of matrix products without weights: attention's."""
    weights = {weight.name for weight in model.graph.initializer}
    return [n.name for n in model.graph.node if n.op_type in _PRODUCTS and not weights & set(n.input[:2])]


def _plain(converted: onnx.ModelProto, tower: onnx.ModelProto) -> onnx.ModelProto:
    """Without what the conversion leaves behind: traces of the tools, and domains that nothing is of."""
    model = copy.deepcopy(converted)
    if foreign := sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain}):
        raise ExportError(
            f"the conversion uses operators outside ONNX's default domain ({', '.join(foreign)})",
            "export in fp32, or check the pinned versions in constraints.txt",
        )
    version = next(opset.version for opset in tower.opset_import if not opset.domain)
    del strip(model).opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", version))
    # The ends as the tower has them: tools drop the names of dimensions.
    for ours, given in ((model.graph.input, tower.graph.input), (model.graph.output, tower.graph.output)):
        del ours[:]
        ours.extend(given)
    nodes = _in_order(model.graph)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each after those that it reads from: some converters put theirs at the end."""
    nodes = [copy.deepcopy(node) for node in graph.node]
    maker = {output: i for i, node in enumerate(nodes) for output in node.output}
    reads = {i: [maker[name] for name in node.input if name in maker] for i, node in enumerate(nodes)}
    return [nodes[i] for i in TopologicalSorter(reads).static_order()]


def _changed(model: onnx.ModelProto, by: str) -> onnx.ModelProto:
    if not any(node.op_type == by for node in model.graph.node):
        raise ExportError("int8 was asked for a graph that has nothing to quantise", "export in fp32")
    return model


COMPARED_IMAGES, COMPARED_TEXTS = 64, 100
# So many must be left to compare on, and twice as many to calibrate on.
_LEAST = 3
_BATCH = 8


@dataclass(frozen=True)
class Quantization:
    """A conversion to a lower precision, as asked for.

    Attributes:
        precision: ``fp16`` or ``int8``.
        images: a folder of the user's own, to calibrate and to compare on.
        data: captions and ratings to measure what is lost, or None.
        forced: whether a bundle that costs too much is written all the same.
    """

    precision: Precision
    images: Path
    data: AccuracyData | None = None
    forced: bool = False

    def sample(self) -> Sample:
        """Every third picture, evenly over the folder, is compared on; at most as many as help.

        Those of a split that losses are measured on are in neither list.

        Raises:
            ExportError: the folder holds too few pictures that can be decoded.
            DataError: the split cannot be read.
        """
        folder, data = self.images, self.data
        measured = {folder / name for name in read_split(data.split)} if data and data.split else set()
        found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in extensions()]
        found = [path for path in found if path not in measured]
        wanted = CALIBRATION_IMAGES + COMPARED_IMAGES
        # A little more than is wanted, since some may not decode.
        places = np.unique(np.linspace(0, len(found) - 1, min(len(found), wanted + wanted // 4)).astype(int))
        usable = [found[i] for i in places if found and _decodes(found[i])][:wanted]
        sample = Sample(tuple(p for i, p in enumerate(usable) if i % 3 != 2), tuple(usable[2::3]))
        if len(sample.compared_on) < _LEAST:
            raise ExportError(
                f"{folder} holds {len(usable)} pictures that can be decoded, and a lower precision needs "
                f"{3 * _LEAST} at least to be calibrated and compared on",
                f"name a folder of your own pictures; {wanted} are enough",
            )
        return sample


@dataclass(frozen=True)
class Sample:
    """Pictures of a folder: none is in both lists."""

    calibrated_on: tuple[Path, ...]
    compared_on: tuple[Path, ...]


def compared_texts(data: AccuracyData | None) -> list[str]:
    """Captions, evenly over the file, or `QUERIES` where there are none."""
    if data is None:
        return list(QUERIES)
    captions = [row.text for row in read_captions(data.captions)]
    places = np.unique(np.linspace(0, len(captions) - 1, min(len(captions), COMPARED_TEXTS)).astype(int))
    return [searchable(captions[i]) for i in places] or list(QUERIES)


def quantized(towers: Towers, precision: Precision, pictures: Sequence[Path]) -> dict[str, onnx.ModelProto]:
    """The towers' graphs in a lower precision, by name.

    Args:
        towers: of the bundle.
        precision: ``fp16`` halves every tower; ``int8`` is static for images, dynamic for texts. A text tower
            that `rounds` stays as it is.
        pictures: what static int8 is calibrated on.

    Raises:
        ExportError: a tower cannot be converted.
    """
    graphs = towers.to_onnx()
    for image in towers.images:
        graph = graphs[image.spec.name]
        graphs[image.spec.name] = half(graph) if precision == "fp16" else static_int8(graph, _feeds(image, pictures))
    for text in towers.texts:
        if not text.rounds:
            graph = graphs[text.spec.name]
            graphs[text.spec.name] = half(graph) if precision == "fp16" else dynamic_int8(graph)
    return graphs


def _feeds(tower: ImageTower, pictures: Sequence[Path]) -> Iterator[Feed]:
    """Normalised pixels (N, 3, H, W) float32, a few pictures at a time, as the tower sees them in a bundle."""
    inputs = (tower.input,)
    for start in range(0, len(pictures), _BATCH):
        found = [decode(path.read_bytes(), enough_pixels(inputs)) for path in pictures[start : start + _BATCH]]
        yield {"pixels": tower.normalised([prepare(picture, inputs)[0] for picture in found])}


def _decodes(path: Path) -> bool:
    try:
        decode(path.read_bytes(), 64)
    except (ImageError, OSError):
        return False
    return True
