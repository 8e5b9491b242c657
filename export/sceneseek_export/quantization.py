"""Conversion of towers to int8 or float16, calibrated and compared on the user's pictures.

A converted graph has the same inputs and outputs, in float32. Only towers are converted: the subgraphs around them
(joint space, class names, the head's shares) stay float32, since they take little time and determine the order of
results.

- ``half``: float16 weights and arithmetic, for GPUs; a CPU computes most of it in float32 after a cast.
- ``static_int8``: for images. Weights are int8 with a scale per channel; activations are uint8 with a range from
  calibration images, expressed with QuantizeLinear and DequantizeLinear (QDQ), which every runtime supports.
  Normalisation, softmax, activations other than ReLU and clips, products of two activations (attention) and the outputs
  of matrix products stay float32.
- ``dynamic_int8``: for texts. Weights as above; the range of an activation is computed at each run, so the vector of a
  text depends slightly on the other texts of its batch (measured in docs/explanation/precision.md).

Every result is in ONNX's default domain at the tower's opset, and conversion is deterministic. `accuracy_loss` measures
the accuracy loss of a precision.
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

# As in the study of docs/explanation/precision.md; 32 images were nearly as good, 300 no better.
CALIBRATION_IMAGES = 128

Feed = Mapping[str, npt.NDArray[Any]]

_PRODUCTS = ("MatMul", "Gemm")
# Includes Relu and Clip so that a convolution's range is that of their output; they cut off most of the range before.
_STATIC = ("Conv", "Relu", "Clip", "Add", "MaxPool", *_PRODUCTS)
# Without Add: in a transformer it is the residual stream, whose few large values would leave the others no resolution.
_STATIC_TRANSFORMER = ("Conv", *_PRODUCTS)
_LARGEST_HALF = 1e4  # masks add -3.4e38, which would become -inf, and 0 * -inf is NaN


def half(tower: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a graph to float16, with float32 inputs and outputs.

    Raises:
        ExportError: the result uses operators outside ONNX's default domain.
    """
    with tempfile.TemporaryDirectory(prefix="sceneseek-fp16-") as folder:
        model = _clean(tower, Path(folder) / "clean.onnx")
    return _plain(convert_float_to_float16(model, max_finite_val=_LARGEST_HALF, keep_io_types=True), tower)


def static_int8(tower: onnx.ModelProto, feeds: Iterable[Feed]) -> onnx.ModelProto:
    """Quantise a graph to 8-bit weights and activations, with the ranges of activations on `feeds`.

    Args:
        tower: a convolutional network or a vision transformer.
        feeds: at least one batch of inputs of the graph, of a few images each; iterated once.

    Raises:
        ExportError: nothing can be quantised, or the result uses operators outside ONNX's default domain.
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
    """Quantise the matrix products of a text transformer: weights to 8 bits, activations at each run.

    Raises:
        ExportError: there is no matrix product with weights, or the result uses operators outside ONNX's default
            domain.
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
    """Feeds batches to the quantiser."""

    def __init__(self, feeds: Iterable[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def _clean(tower: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Fold constants, merge batch normalisation and padding into convolutions, and infer shapes."""
    named = copy.deepcopy(tower)
    for i, node in enumerate(named.graph.node):
        node.name = node.name or f"{node.op_type}.{i}"  # nodes are excluded by name
    # From a file: for a model in memory, it removes the large weights and then looks for them in a file.
    source = path.with_name("source.onnx")
    onnx.save(named, source)
    quant_pre_process(source, path, skip_symbolic_shape=True)
    source.unlink()
    return onnx.load(path)


def _is_transformer(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "Softmax" for node in model.graph.node)


def _products_of_activations(model: onnx.ModelProto) -> list[str]:
    """The names of matrix products without weights, as in attention."""
    weights = {weight.name for weight in model.graph.initializer}
    return [n.name for n in model.graph.node if n.op_type in _PRODUCTS and not weights & set(n.input[:2])]


def _plain(converted: onnx.ModelProto, tower: onnx.ModelProto) -> onnx.ModelProto:
    """The converted graph without traces of the tools and unused domains, with the inputs and outputs of `tower`."""
    model = copy.deepcopy(converted)
    if foreign := sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain}):
        raise ExportError(
            f"the conversion uses operators outside ONNX's default domain ({', '.join(foreign)})",
            "export in fp32, or check the pinned versions in constraints.txt",
        )
    version = next(opset.version for opset in tower.opset_import if not opset.domain)
    del strip(model).opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", version))
    # Restore inputs and outputs: the tools drop the names of dimensions.
    for ours, original in ((model.graph.input, tower.graph.input), (model.graph.output, tower.graph.output)):
        del ours[:]
        ours.extend(original)
    nodes = _in_order(model.graph)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes in topological order: some converters append theirs at the end."""
    nodes = [copy.deepcopy(node) for node in graph.node]
    producer = {output: i for i, node in enumerate(nodes) for output in node.output}
    reads = {i: [producer[name] for name in node.input if name in producer] for i, node in enumerate(nodes)}
    return [nodes[i] for i in TopologicalSorter(reads).static_order()]


def _changed(model: onnx.ModelProto, operator: str) -> onnx.ModelProto:
    if not any(node.op_type == operator for node in model.graph.node):
        raise ExportError("the graph has nothing to quantise to int8", "export in fp32")
    return model


COMPARED_IMAGES, COMPARED_TEXTS = 64, 100
# Minimum number of pictures to compare on; twice as many are needed to calibrate on.
_MIN_COMPARED = 3
_BATCH = 8


@dataclass(frozen=True)
class Quantization:
    """The options of a conversion to a lower precision.

    Attributes:
        precision: ``fp16`` or ``int8``.
        images: a folder of the user's own pictures, to calibrate and to compare on.
        data: captions and ratings to measure the losses of recall and tau-c; None if not given.
        forced: whether to write a bundle whose accuracy loss is too large.
    """

    precision: Precision
    images: Path
    data: AccuracyData | None = None
    forced: bool = False

    def sample(self) -> Sample:
        """Sample pictures evenly over the folder: every third one to compare on, the others to calibrate on.

        The pictures of a split on which recall is measured are in neither list.

        Raises:
            ExportError: the folder has too few pictures that can be decoded.
            DataError: the split cannot be read.
        """
        folder, data = self.images, self.data
        measured = {folder / name for name in read_split(data.split)} if data and data.split else set()
        files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in extensions()]
        files = [path for path in files if path not in measured]
        wanted = CALIBRATION_IMAGES + COMPARED_IMAGES
        # A quarter more than wanted, since some may not be decodable.
        places = np.unique(np.linspace(0, len(files) - 1, min(len(files), wanted + wanted // 4)).astype(int))
        usable = [files[i] for i in places if files and _decodes(files[i])][:wanted]
        sample = Sample(tuple(p for i, p in enumerate(usable) if i % 3 != 2), tuple(usable[2::3]))
        if len(sample.compared_on) < _MIN_COMPARED:
            raise ExportError(
                f"{folder} has {len(usable)} pictures that can be decoded; a lower precision needs at least "
                f"{3 * _MIN_COMPARED} to calibrate and to compare on",
                f"choose a folder of your own pictures; {wanted} are enough",
            )
        return sample


@dataclass(frozen=True)
class Sample:
    """Pictures of a folder, in two disjoint lists."""

    calibrated_on: tuple[Path, ...]
    compared_on: tuple[Path, ...]


def compared_texts(data: AccuracyData | None) -> list[str]:
    """Captions sampled evenly over the file, or `QUERIES` if there are none."""
    if data is None:
        return list(QUERIES)
    captions = [row.text for row in read_captions(data.captions)]
    places = np.unique(np.linspace(0, len(captions) - 1, min(len(captions), COMPARED_TEXTS)).astype(int))
    return [searchable(captions[i]) for i in places] or list(QUERIES)


def quantized(towers: Towers, precision: Precision, pictures: Sequence[Path]) -> dict[str, onnx.ModelProto]:
    """The towers' graphs in a lower precision, by name.

    Args:
        towers: the towers of the bundle.
        precision: ``fp16`` for every tower; ``int8`` is static for images and dynamic for texts. A text tower that
            `rounds` is unchanged.
        pictures: the pictures to calibrate static int8 on.

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
    """Batches of normalised pixels (N, 3, H, W) float32, as the tower reads them in a bundle."""
    inputs = (tower.input,)
    for start in range(0, len(pictures), _BATCH):
        decoded = [decode(path.read_bytes(), enough_pixels(inputs)) for path in pictures[start : start + _BATCH]]
        yield {"pixels": tower.normalised([prepare(picture, inputs)[0] for picture in decoded])}


def _decodes(path: Path) -> bool:
    try:
        decode(path.read_bytes(), 64)
    except (ImageError, OSError):
        return False
    return True
